package connector

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// valuesName is the ConfigMap with the values for Helm, where the package comes from its address and not as files.
const valuesName = "certloom-connector"

// inConfigMap reports whether a file is for Helm or istioctl.
func inConfigMap(name string) bool {
	return strings.HasSuffix(name, "-values.yaml") || name == "istio-operator.yaml"
}

// manifest reports whether a file is for kubectl.
func manifest(name string) bool {
	return strings.HasSuffix(name, ".yaml") && !inConfigMap(name)
}

// Manifests are the objects of a package in one text, for kubectl, with what Helm needs in a ConfigMap.
func Manifests(c *pki.Connector, files []File) []byte {
	var out, text, binary bytes.Buffer
	for _, f := range files {
		switch {
		case manifest(f.Name):
			out.Write(f.Data)
			out.WriteString("---\n")
		case inConfigMap(f.Name):
			lines := strings.ReplaceAll(strings.TrimSuffix(string(f.Data), "\n"), "\n", "\n    ")
			fmt.Fprintf(&text, "  %s: |\n    %s\n", f.Name, lines)
		case f.Name == chartName:
			fmt.Fprintf(&binary, "binaryData:\n  %s: %s\n", f.Name, base64.StdEncoding.EncodeToString(f.Data))
		}
	}
	fmt.Fprintf(&out, "# What Helm needs for the rest.\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  namespace: %s\ndata:\n",
		valuesName, c.Settings.IstioNamespace)
	out.Write(text.Bytes())
	out.Write(binary.Bytes())
	return out.Bytes()
}

// Folder is what archives of a connector's package unpack to, and are called: a name that every system can store.
func Folder(c *pki.Connector) string { return "certloom-istio-" + strings.ToLower(c.Name) }

// Zip packs a package into one folder.
func Zip(c *pki.Connector, files []File, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, f := range files {
		header := &zip.FileHeader{Name: Folder(c) + "/" + f.Name, Method: zip.Deflate, Modified: at.UTC()}
		header.SetMode(fileMode(f))
		w, err := archive.CreateHeader(header)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return out.Bytes(), nil
}

// fileMode keeps what is secret from others, as far as an archive can.
func fileMode(f File) fs.FileMode {
	switch {
	case f.Secret:
		return 0o600
	case f.Name == "apply.sh":
		return 0o755
	default:
		return 0o644
	}
}

// PackChart packs a chart as `helm package` does: a compressed archive with one folder.
func PackChart(chart fs.FS, name string) ([]byte, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	err := fs.WalkDir(chart, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(chart, file)
		if err == nil {
			err = archive.WriteHeader(&tar.Header{Name: path.Join(name, file), Mode: 0o644, Size: int64(len(raw))})
		}
		if err == nil {
			_, err = archive.Write(raw)
		}
		return err //nolint:wrapcheck // said below, with the chart's name
	})
	if err == nil {
		err = archive.Close()
	}
	if err == nil {
		err = zipped.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack chart %s: %w", name, err)
	}
	return out.Bytes(), nil
}

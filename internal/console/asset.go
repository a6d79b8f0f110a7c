package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// assets are the files below static/, compressed once. Addresses carry a hash of what they lead to, so that browsers
// keep a file for ever and still get a new version's at once.
type assets struct{ files map[string]asset }

type asset struct {
	kind        string // media type
	hash        string
	raw, zipped []byte
}

func loadAssets() (*assets, error) {
	a := &assets{files: make(map[string]asset)}
	err := fs.WalkDir(files, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := files.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		zipped, err := compressed(raw)
		if err != nil {
			return fmt.Errorf("compress %s: %w", name, err)
		}
		sum := sha256.Sum256(raw)
		a.files[strings.TrimPrefix(name, "static/")] = asset{
			kind: kindOf(name), hash: hex.EncodeToString(sum[:6]), raw: raw, zipped: zipped,
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read static files: %w", err)
	}
	return a, nil
}

func compressed(raw []byte) ([]byte, error) {
	var out bytes.Buffer
	writer, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err == nil {
		_, err = writer.Write(raw)
	}
	if err == nil {
		err = writer.Close()
	}
	return out.Bytes(), err
}

func kindOf(name string) string {
	switch path.Ext(name) { // not left to the machine's tables
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case "":
		return "text/plain; charset=utf-8"
	default:
		return mime.TypeByExtension(path.Ext(name))
	}
}

// address is where a file is served.
func (a *assets) address(name string) string { return "/static/" + name + "?v=" + a.files[name].hash }

// ServeHTTP is part of http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, ok := a.files[r.PathValue("file")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("ETag", `"`+file.hash+`"`)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == file.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("If-None-Match") == `"`+file.hash+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if len(file.zipped) < len(file.raw) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		w.Write(file.zipped)
		return
	}
	w.Write(file.raw)
}

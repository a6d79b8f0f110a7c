package issuer_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/testca"
)

func rootsPEM(hierarchies ...*testca.Hierarchy) string {
	var text bytes.Buffer
	for _, h := range hierarchies {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: h.RootCert.Raw})
	}
	return text.String()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newRootFile(path string, log *bytes.Buffer) (*issuer.RootFile, error) {
	return issuer.NewRootFile(issuer.RootFileConfig{Path: path, Now: testca.Now, Logger: slog.New(slog.NewTextHandler(log, nil))})
}

func TestRootFile(t *testing.T) {
	t.Parallel()
	one, two := testca.New(t), testca.New(t)
	path := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, path, "subject: one\n"+rootsPEM(one))
	var log bytes.Buffer
	f, err := newRootFile(path, &log)
	if err != nil {
		t.Fatal(err)
	}
	first := f.Bundle()
	if len(first.Roots) != 1 || f.Err() != nil {
		t.Fatalf("%d roots, %v", len(first.Roots), f.Err())
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		look := func() { // lets Run look twice
			<-time.After(11 * time.Second)
			synctest.Wait()
		}
		look()
		if f.Bundle() != first {
			t.Error("the bundle changed with the file the same")
		}
		writeFile(t, path, rootsPEM(one)+"other text, same roots\n")
		look()
		if f.Bundle() != first {
			t.Error("the bundle changed with its roots the same")
		}
		writeFile(t, path, "nothing")
		look()
		if f.Bundle() != first || f.Err() == nil {
			t.Errorf("a bad file: %v", f.Err())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		look()
		if f.Bundle() != first || f.Err() == nil {
			t.Errorf("no file: %v", f.Err())
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d errors in the log:\n%s", n, &log)
		}
		writeFile(t, path, rootsPEM(one, two))
		look()
		if len(f.Bundle().Roots) != 2 || f.Err() != nil {
			t.Errorf("after a rotation: %d roots, %v", len(f.Bundle().Roots), f.Err())
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRootFileRefuses(t *testing.T) {
	t.Parallel()
	expired := testca.NewWith(t, testca.Options{Now: testca.Now().AddDate(-100, 0, 0)})
	leaf := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))
	good := rootsPEM(testca.New(t))
	for name, text := range map[string]string{
		"empty": "", "text": "x", "garbage": good + leaf, "key": good + key, "expired": rootsPEM(expired), "large": good + strings.Repeat("x", 1<<20),
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ca.pem")
			writeFile(t, path, text)
			if f, err := newRootFile(path, &bytes.Buffer{}); err == nil {
				t.Errorf("accepted: %d roots", len(f.Bundle().Roots))
			}
		})
	}
	if _, err := newRootFile(filepath.Join(t.TempDir(), "none"), &bytes.Buffer{}); err == nil {
		t.Error("a file that is not there was accepted")
	}
	if _, err := issuer.NewRootFile(issuer.RootFileConfig{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

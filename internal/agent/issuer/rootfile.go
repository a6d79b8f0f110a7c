package issuer

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/telemetry"
)

// RootFileConfig is what a RootFile needs.
type RootFileConfig struct {
	Path     string        // of the file: certificates in PEM
	Interval time.Duration // between looks at the file; default 5 s
	Now      func() time.Time
	Logger   *slog.Logger
	// Registerer takes the metric that tells whether the file is good; nil takes none.
	Registerer prometheus.Registerer
}

// RootFile is a trust bundle that an operator gives in a file, for CAs that do not tell their roots: ACME never does. It is
// safe for concurrent use.
//
// The file is looked at again and again, not watched: the kubelet replaces the files of a mounted Secret or ConfigMap by
// turning a symbolic link around, up to a minute after the change, and network file systems tell nobody.
type RootFile struct {
	config RootFileConfig
	bundle atomic.Pointer[Bundle]

	mu  sync.Mutex // guards raw and err; held for assignments only
	raw []byte     // the file as it was read last, good or bad
	err error      // why the file as it is now is not in use
}

const (
	defaultRootInterval = 5 * time.Second
	maxRootFile         = 1 << 20 // what a ConfigMap can hold
)

// NewRootFile reads the file, which must be good.
func NewRootFile(config RootFileConfig) (*RootFile, error) {
	if config.Now == nil || config.Logger == nil {
		return nil, errors.New("root file: Now or Logger is missing")
	}
	if config.Interval <= 0 {
		config.Interval = defaultRootInterval
	}
	f := &RootFile{config: config}
	raw, err := readAtMost(config.Path, maxRootFile)
	if err != nil {
		return nil, err
	}
	bundle, err := f.parse(raw)
	if err != nil {
		return nil, err
	}
	f.raw = raw
	f.bundle.Store(bundle)
	if config.Registerer == nil {
		return f, nil
	}
	err = config.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_root_file_good",
		Help: "1 while the file with the roots can be read; 0 while the roots that were read before are in use.",
	}, func() float64 {
		if f.Err() != nil {
			return 0
		}
		return 1
	}))
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return f, nil
}

// ReadRoots reads a trust bundle from a file of certificates in PEM.
func ReadRoots(path string) (*Bundle, error) {
	raw, err := readAtMost(path, maxRootFile)
	if err != nil {
		return nil, err
	}
	return parseRoots(path, raw)
}

// Bundle returns the roots of the file when it was good last.
func (f *RootFile) Bundle() *Bundle { return f.bundle.Load() }

// Err returns why the file as it is now is not in use, nil when it is.
func (f *RootFile) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Run reads the file again when it has changed, until ctx ends. A file that is bad or gone changes nothing but Err.
func (f *RootFile) Run(ctx context.Context) error {
	ticker := time.NewTicker(f.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f.look(ctx)
		}
	}
}

func (f *RootFile) look(ctx context.Context) {
	raw, err := readAtMost(f.config.Path, maxRootFile)
	f.mu.Lock()
	before, failure := f.raw, f.err
	f.mu.Unlock()
	if err == nil && failure == nil && bytes.Equal(raw, before) {
		return
	}
	var bundle *Bundle
	if err == nil {
		bundle, err = f.parse(raw)
	}
	f.mu.Lock()
	f.raw, f.err = raw, err
	f.mu.Unlock()
	if err != nil {
		if failure == nil || !bytes.Equal(raw, before) {
			f.config.Logger.ErrorContext(ctx, "root file not read, the roots from before stay in use", telemetry.KeyError, err)
		}
		return
	}
	if old := f.bundle.Load(); old.Version == bundle.Version {
		return // what is known of it stays known
	}
	f.bundle.Store(bundle)
	f.config.Logger.InfoContext(ctx, "trust bundle changed", "roots", len(bundle.Roots), "version", bundle.Version)
}

// parse reads the roots, not all of which may have expired.
func (f *RootFile) parse(raw []byte) (*Bundle, error) {
	bundle, err := parseRoots(f.config.Path, raw)
	if err != nil {
		return nil, err
	}
	if last := latest(bundle); !f.config.Now().Before(last) {
		return nil, fmt.Errorf("%s: all roots have expired, the last at %s", f.config.Path, last.UTC().Format(time.RFC3339))
	}
	return bundle, nil
}

// parseRoots reads certificates in PEM. Text between them is allowed, as openssl writes it; anything else in PEM is not: a
// key in this file is a mistake that should not stay unnoticed.
func parseRoots(path string, raw []byte) (*Bundle, error) {
	var roots [][]byte
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a PEM block %.40q besides certificates", path, block.Type)
		}
		roots = append(roots, block.Bytes)
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	bundle, err := NewBundle(roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return bundle, nil
}

func latest(b *Bundle) time.Time {
	var last time.Time
	for _, root := range b.Roots {
		if root.NotAfter.After(last) {
			last = root.NotAfter
		}
	}
	return last
}

// readAtMost reads a file of a size that is not ours to trust.
func readAtMost(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the roots: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the roots: %w", err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, nil
}

package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxFile bounds the settings file; a real one has a few kilobytes.
const maxFile = 1 << 20

// Load reads and checks a settings file. The error holds all problems, joined by errors.Join, each a line of its own.
// Files that settings name are checked to be readable; they are not opened for good.
func Load(path string) (*Config, error) {
	raw, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	c, err := decode(raw, filepath.Dir(path))
	if c != nil {
		err = errors.Join(err, c.Check(), c.checkFiles())
	}
	if err != nil {
		return nil, fmt.Errorf("settings file %s:\n%w", path, err)
	}
	return c, nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer func() { _ = file.Close() }() // nothing was written
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("settings file %s has more than %d bytes", path, maxFile)
	}
	return raw, nil
}

// Parse reads settings from YAML and checks them, without looking at any file. Relative paths become relative to dir.
// Unknown and repeated keys are refused.
func Parse(raw []byte, dir string) (*Config, error) {
	c, err := decode(raw, dir)
	if c != nil {
		err = errors.Join(err, c.Check())
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// resolve makes paths absolute, counting from the folder of the settings file.
func (c *Config) resolve(dir string) {
	for _, path := range []*string{
		&c.DataDir, &c.Database.DSNFile, &c.Keys.PassphraseFile, &c.Keys.KeyFile, &c.TLS.CertificateFile, &c.TLS.KeyFile,
		&c.SignIn.OIDC.ClientSecretFile, &c.SignIn.OIDC.CAFile,
	} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// checkFiles reports every file that cannot be read and every secret that others may read.
func (c *Config) checkFiles() error {
	var problems []error
	for _, file := range []struct {
		setting, path string
		secret        bool
	}{
		{"database.dsnFile", c.Database.DSNFile, true},
		{"keys.passphraseFile", c.Keys.PassphraseFile, true},
		{"keys.keyFile", c.Keys.KeyFile, true},
		{"tls.certificateFile", c.TLS.CertificateFile, false},
		{"tls.keyFile", c.TLS.KeyFile, true},
		{"signIn.oidc.clientSecretFile", c.SignIn.OIDC.ClientSecretFile, true},
		{"signIn.oidc.caFile", c.SignIn.OIDC.CAFile, false},
	} {
		if file.path == "" {
			continue
		}
		if err := checkFile(file.path, file.secret); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", file.setting, err))
		}
	}
	return errors.Join(problems...)
}

func checkFile(path string, secret bool) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = file.Close() }() // nothing was written
	info, err := file.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("cannot be read: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case secret && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o, so others may read the secret in it; run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

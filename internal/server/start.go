package server

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/certloom/certloom/internal/config"
)

// Start binds the listeners and opens the Parts. What keeps it from starting (an address that is taken, a key file that
// cannot be read, a data folder that another process uses) is reported together, and nothing was made then.
// The caller closes what it got.
func Start(ctx context.Context, c Config, create bool) (*Listeners, *Parts, error) {
	listeners, bindErr := Bind(ctx, c.Settings.Listen)
	if bindErr != nil {
		// Looking further must not make anything, so a database that is not there yet is left alone.
		parts, err := openExisting(ctx, c)
		if parts != nil {
			err = errors.Join(err, parts.Close())
		}
		return nil, nil, errors.Join(bindErr, err)
	}
	parts, err := Open(ctx, c, create)
	if err != nil {
		listeners.Close()
		return nil, nil, err
	}
	return listeners, parts, nil
}

// openExisting opens the Parts of a database that is there; nil when there is none.
func openExisting(ctx context.Context, c Config) (*Parts, error) {
	if c.Settings.Database.Driver == config.SQLite {
		if _, err := os.Stat(databaseFile(c.Settings)); err != nil {
			return nil, nil //nolint:nilnil,nilerr // there is nothing that could be wrong with it
		}
	}
	return Open(ctx, c, false)
}

// StartDev is Start for `certloom dev`: between the two it makes the data folder and its key file.
func StartDev(ctx context.Context, c Config, random io.Reader) (*Listeners, *Parts, error) {
	if _, err := os.Stat(c.Settings.Keys.KeyFile); err == nil {
		return Start(ctx, c, true)
	}
	listeners, err := Bind(ctx, c.Settings.Listen)
	if err != nil {
		return nil, nil, err
	}
	parts, err := openNew(ctx, c, random)
	if err != nil {
		listeners.Close()
		return nil, nil, err
	}
	return listeners, parts, nil
}

func openNew(ctx context.Context, c Config, random io.Reader) (*Parts, error) {
	if err := prepareDev(c.Settings, random); err != nil {
		return nil, err
	}
	return Open(ctx, c, true)
}

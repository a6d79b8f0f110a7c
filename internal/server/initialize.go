package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/certloom/certloom/internal/fault"
)

// AdminFile is the connection file that Initialize writes into the data folder.
const AdminFile = "admin.json"

// InitOptions are the flags of `certloom init`.
type InitOptions struct {
	Organization string
	NoCA         bool // CAs will be imported, or signed by an outside root
}

// Initialize makes what a new installation needs, and writes AdminFile. It fails with Conflict when that was done
// already; one that was interrupted goes on. CAs and profiles that are there stay as they are.
func (p *Parts) Initialize(ctx context.Context, o InitOptions) (*Connection, error) {
	dir := p.Settings.DataDir
	if err := os.MkdirAll(dir, dataMode); err != nil { // PostgreSQL needs no folder, but the files below do
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	file, rootFile := filepath.Join(dir, AdminFile), filepath.Join(dir, "root.pem")
	connection, err := readConnection(file)
	switch {
	case err != nil:
		return nil, err
	case connection == nil:
		connection = &Connection{}
	case connection.APIToken != "":
		return nil, fault.New(fault.Conflict, "the server is initialized already: %s has its administrator", file)
	}
	connection.URL = p.baseURL()
	if !o.NoCA {
		if err := p.setupCAs(ctx, o.Organization, rootFile); err != nil {
			return nil, err
		}
		connection.RootFile = rootFile
	}
	if p.Settings.TLS.Profile != "" {
		if err := p.setupOwnProfile(ctx); err != nil {
			return nil, err
		}
		connection.CAFile = rootFile
	}
	return connection, p.setupAdmin(ctx, connection, file)
}

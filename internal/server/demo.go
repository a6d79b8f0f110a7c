package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/certloom/certloom/internal/demo"
)

// MaxDemoWorkloads bounds --demo-workloads.
const MaxDemoWorkloads = 10000

// AddDemo adds simulated workloads, which use the ACME credential of profile istio. Call it before Run; none is fine.
func (s *Server) AddDemo(c *Connection, workloads int) error {
	if workloads == 0 {
		return nil
	}
	raw, err := os.ReadFile(c.RootFile)
	if err != nil {
		return fmt.Errorf("read root: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return errors.New("root file has no certificate")
	}
	credential := c.ACME["istio"]
	fleet, err := demo.New(demo.Config{
		Workloads: workloads, DirectoryURL: credential.DirectoryURL, KeyID: credential.KeyID, HMACKey: credential.HMACKey,
		Roots: roots, Now: s.parts.Now, Random: s.parts.Random, Logger: s.parts.Logger,
	})
	if err != nil {
		return fmt.Errorf("make workloads: %w", err)
	}
	s.tasks.Add("demo workloads", fleet.Run)
	return nil
}

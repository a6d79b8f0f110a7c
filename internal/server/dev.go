package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/pki"
)

// DevOptions are the flags of `certloom dev`.
type DevOptions struct {
	Data          string // folder; made if it is not there
	Listen        string // HOST:PORT of the HTTPS listener
	HTTP01Port    int
	TLSALPN01Port int
	DNSResolver   string // HOST:PORT; empty: those of /etc/resolv.conf
	LogLevel      string
	Pprof         bool
}

// devOrganization is in the subjects of the CAs that dev makes, so that nobody takes them for real ones.
const devOrganization = "Certloom Dev"

// devKeyLen is what a key file holds.
const devKeyLen = 32

// agentOffset and healthOffset are how far the ports of agents and of health lie above the HTTPS port.
const (
	agentOffset  = 1
	healthOffset = 2
)

// DevSettings returns the settings of `certloom dev`. Options that cannot be are reported together.
func DevSettings(o DevOptions) (*config.Config, error) {
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %q is not HOST:PORT or :PORT", o.Listen)
	}
	number, err := strconv.Atoi(port)
	if err != nil || number < 1 || number > 65535-healthOffset {
		return nil, fmt.Errorf("--listen: port %q is not a number from 1 to %d; the next two ports are used as well", port, 65535-healthOffset)
	}
	c := config.Default()
	c.PublicURL = "https://" + net.JoinHostPort(publicHost(host), port)
	c.DataDir = data
	c.Keys.KeyFile = filepath.Join(data, "master.key")
	c.Listen = config.Listen{
		HTTPS:  o.Listen,
		Agent:  net.JoinHostPort(host, strconv.Itoa(number+agentOffset)),
		Health: net.JoinHostPort("127.0.0.1", strconv.Itoa(number+healthOffset)),
	}
	c.TLS = config.TLS{Profile: "certloom", Names: devNames()}
	c.ACME.HTTP01Port, c.ACME.TLSALPN01Port, c.ACME.DNSResolver = o.HTTP01Port, o.TLSALPN01Port, o.DNSResolver
	c.Log.Level = o.LogLevel
	c.Debug.Pprof = o.Pprof
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("flags of certloom dev:\n%w", err)
	}
	return &c, nil
}

// publicHost is the host that clients on this machine use: the one that is listened on, if a certificate can carry it
// and it is not "all addresses".
func publicHost(host string) string {
	addr, err := netip.ParseAddr(host)
	if host == "" || (err == nil && (addr.IsUnspecified() || addr.IsLoopback())) {
		return "localhost"
	}
	return host
}

// devNames are the names by which this machine is reached.
func devNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		host = strings.ToLower(host)
		if pki.CheckDNSName(host) == nil && host != "localhost" {
			names = append(names, host)
		}
	}
	return names
}

// prepareDev makes the data folder and its key file, before Open needs them.
func prepareDev(settings *config.Config, random io.Reader) error {
	if err := os.MkdirAll(settings.DataDir, dataMode); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	_, err := os.Stat(settings.Keys.KeyFile)
	if !errors.Is(err, os.ErrNotExist) {
		if err != nil {
			return fmt.Errorf("key file: %w", err)
		}
		return nil
	}
	if _, err := os.Stat(databaseFile(settings)); err == nil {
		return fmt.Errorf("%s has a database but not the key file %s that opens its CA keys; put the file back,"+
			" or remove the folder to start anew", settings.DataDir, settings.Keys.KeyFile)
	}
	key := make([]byte, devKeyLen)
	if _, err := io.ReadFull(random, key); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	return writeFile(settings.Keys.KeyFile, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), secretMode)
}

// SetUpDev makes everything that `certloom dev` promises, as far as it is not there yet, and returns what is in
// DIR/dev.json. It may be interrupted at any point and run again.
func (p *Parts) SetUpDev(ctx context.Context) (*Connection, error) {
	dir := p.Settings.DataDir
	rootFile, file := filepath.Join(dir, "root.pem"), filepath.Join(dir, "dev.json")
	connection, err := readConnection(file)
	if err != nil {
		return nil, err
	}
	if err := p.setupCAs(ctx, devOrganization, rootFile); err != nil {
		return nil, err
	}
	if err := p.setupOwnProfile(ctx); err != nil {
		return nil, err
	}
	credentials, err := p.setupDevProfiles(ctx)
	if err != nil {
		return nil, err
	}
	agent, err := p.setupDevAgent(ctx)
	if err != nil {
		return nil, err
	}
	if connection == nil {
		connection = &Connection{}
	}
	connection.URL, connection.CAFile, connection.RootFile = p.baseURL(), rootFile, rootFile
	connection.ACME, connection.Agent = credentials, agent
	if err := p.setupAdmin(ctx, connection, file); err != nil {
		return nil, err
	}
	return connection, writeConnection(file, connection)
}

// setupDevAgent makes the profile of mesh workloads that an agent asks for, and a credential for it.
func (p *Parts) setupDevAgent(ctx context.Context) (*AgentCredential, error) {
	mesh, err := p.setupProfile(ctx, "mesh", pki.PrivateMTLS, pki.Agent, meshNames)
	if err != nil {
		return nil, err
	}
	made, err := p.setupCredential(ctx, mesh, "dev")
	if err != nil {
		return nil, err
	}
	return &AgentCredential{URL: p.Settings.AgentAddress(), KeyID: made.KeyID, HMACKey: made.HMACKey}, nil
}

// meshNames allows every workload of the mesh, and the names of istiod and of the agent itself.
func meshNames(rules *pki.ProfileRules) {
	rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}}
	rules.Names.DNS.Allow = []string{"**.svc", "**.svc.cluster.local"}
}

// setupDevProfiles makes the profiles that design and documentation promise, and a credential for those that need one.
func (p *Parts) setupDevProfiles(ctx context.Context) (map[string]ACMECredential, error) {
	istio, err := p.setupProfile(ctx, "istio", pki.PrivateMTLS, pki.MTLSOverACME, meshNames)
	if err != nil {
		return nil, err
	}
	server, err := p.setupProfile(ctx, "server", pki.PrivateServer, pki.ACMEClient, func(rules *pki.ProfileRules) {
		rules.Names.DNS.Allow = []string{"**.svc", "**.localhost", "**.example.com"}
	})
	if err != nil {
		return nil, err
	}
	_, err = p.setupProfile(ctx, "challenge", pki.PrivateServer, pki.ACMEClient, func(rules *pki.ProfileRules) {
		rules.Names.DNS = pki.DNSRules{Allow: []string{"**"}, Wildcards: true}
		rules.Names.IP.Allow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		rules.Challenges = &pki.Challenges{
			Types:    []string{"http-01", "dns-01", "tls-alpn-01"},
			Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		}
	})
	if err != nil {
		return nil, err
	}
	credentials := make(map[string]ACMECredential)
	for _, profile := range []*pki.Profile{istio, server} {
		if credentials[profile.Name], err = p.setupCredential(ctx, profile, "dev"); err != nil {
			return nil, err
		}
	}
	return credentials, nil
}

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/config"
)

const minimal = `
publicUrl: https://ca.example.com
keys: {keyFile: certloom.key}
tls: {profile: certloom}
`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := config.Parse([]byte(minimal+"acme: {orderLifetime: 2h}\n"), "/etc/certloom")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.PublicURL = "https://ca.example.com"
	want.Keys.KeyFile = "/etc/certloom/certloom.key"
	want.TLS.Profile = "certloom"
	want.ACME.OrderLifetime = config.Duration(2 * time.Hour)
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		yaml string
		want []string
	}{
		"empty":              {"", []string{"publicUrl: is missing", "keys: neither", "tls: neither"}},
		"unknown key":        {minimal + "colour: red\n", []string{"colour: is not a setting (line 5)"}},
		"unknown nested key": {minimal + "log: {colour: red}\n", []string{"log.colour: is not a setting (line 5)"}},
		"repeated key":       {minimal + "publicUrl: https://other.example.com\n", []string{"publicUrl: is given twice (line 5)"}},
		"two documents":      {minimal + "---\na: b\n", []string{"more than one YAML document"}},
		"wrong type":         {minimal + "acme: {http01Port: many}\n", []string{`acme.http01Port: "many" is not a whole number (line 5)`}},
		"no map":             {"[1, 2]", []string{"the file is not a mapping of settings (line 1)"}},
		"bytes":              {"\x00\x01\xff", []string{""}},
		"no map below":       {minimal + "log: json\n", []string{`log: "json" is not a mapping of settings`}},
		"no text":            {minimal + "dataDir: [a]\n", []string{"dataDir: is not a text"}},
		"no list":            {strings.Replace(minimal, "profile: certloom", "profile: p, names: a.example", 1), []string{"tls.names: \"a.example\" is not a list"}},
		"no switch":          {minimal + "debug: {pprof: 7}\n", []string{`debug.pprof: "7" is neither true nor false`}},
		"alias":              {minimal + "dataDir: &a /x\nacme: {website: *a}\n", []string{"acme.website: ", "alias"}},
		"plain http":         {strings.Replace(minimal, "https://ca", "http://ca", 1), []string{`publicUrl: "http://ca.example.com" does not begin with https://`}},
		"path in URL":        {strings.Replace(minimal, "example.com", "example.com/acme", 1), []string{"publicUrl: ", "more or less than a host"}},
		"upper-case host":    {strings.Replace(minimal, "ca.example", "CA.example", 1), []string{"publicUrl: ", `character 'C'`}},
		"both secrets":       {strings.Replace(minimal, "keyFile: certloom.key", "keyFile: a, passphraseFile: b", 1), []string{"keys: both"}},
		"driver":             {minimal + "database: {driver: mysql}\n", []string{`database.driver: "mysql" is not one of sqlite, postgres`}},
		"postgres without":   {minimal + "database: {driver: postgres}\n", []string{"database.dsnFile: is missing"}},
		"sqlite with DSN":    {minimal + "database: {dsnFile: x}\n", []string{"database.dsnFile: "}},
		"address":            {minimal + "listen: {https: nowhere}\n", []string{`listen.https: "nowhere" is not HOST:PORT`}},
		"port":               {minimal + "listen: {https: ':99999'}\n", []string{`port "99999"`}},
		"same address":       {minimal + "listen: {https: ':1', health: ':1'}\n", []string{`address ":1" is given twice`}},
		"agent address":      {minimal + "listen: {agent: here}\n", []string{`listen.agent: "here" is not HOST:PORT`}},
		"agent's is https's": {minimal + "listen: {https: ':8444'}\n", []string{`address ":8444" is given twice`}},
		"agent URL":          {minimal + "agentUrl: ca.example.com:8444\n", []string{"agentUrl: "}},
		"agent URL, but off": {minimal + "agentUrl: https://ca.example.com:8444\nlisten: {agent: ''}\n", []string{"agentUrl: ", "agents are not served"}},
		"half a certificate": {strings.Replace(minimal, "profile: certloom", "keyFile: k", 1), []string{"belong together"}},
		"two certificates":   {strings.Replace(minimal, "profile: certloom", "profile: p, keyFile: k, certificateFile: c", 1), []string{"tls: both"}},
		"bad name":           {strings.Replace(minimal, "profile: certloom", "profile: p, names: [a_b]", 1), []string{"tls.names[0]: "}},
		"duration":           {minimal + "acme: {orderLifetime: soon}\n", []string{`acme.orderLifetime: duration "soon" is not a positive number with a unit`}},
		"short lifetime":     {minimal + "acme: {orderLifetime: 1s}\n", []string{"acme.orderLifetime: 1s is not within 5m and 30d"}},
		"mean":               {minimal + "acme: {nonceRejectPercent: 100}\n", []string{"acme.nonceRejectPercent: 100 is not within 0 and 90"}},
		"web address":        {minimal + "acme: {website: ftp://x}\n", []string{`acme.website: "ftp://x" is not an http or https URL`}},
		"everything at once": {
			minimal + "log: {format: xml, level: loud}\nacme: {http01Port: 0}\n",
			[]string{`log.format: "xml"`, `log.level: "loud"`, "acme.http01Port: 0"},
		},
		"every kind at once": {
			"databse: x\nacme: {orderLifetime: 5, http01Port: many}\nlog: {level: loud}\n",
			[]string{"databse: is not", "acme.orderLifetime: duration", "acme.http01Port: ", "log.level: ", "publicUrl: is missing", "keys: neither"},
		},
	}
	for name, tt := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse([]byte(tt.yaml), "/etc/certloom")
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in:\n%v", want, err)
				}
			}
		})
	}
}

func TestAgentAddress(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"":                                   "https://ca.example.com:8444",
		"listen: {agent: '10.0.0.1:9000'}\n": "https://ca.example.com:9000",
		"listen: {agent: ''}\n":              "",
		"agentUrl: https://agents.ca.example.com:443/\n": "https://agents.ca.example.com:443",
	} {
		c, err := config.Parse([]byte(minimal+yaml), "/etc/certloom")
		if err != nil {
			t.Errorf("%q: %v", yaml, err)
			continue
		}
		if got := c.AgentAddress(); got != want {
			t.Errorf("%q: agents use %q, want %q", yaml, got, want)
		}
	}
}

// What a file leaves out, or leaves empty, is as the defaults say, also when that is everything.
func TestParseKeepsDefaults(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"nothing": "", "comment": "# nothing yet\n", "mark": "---\n", "null": "null\n"} {
		_, err := config.Parse([]byte(raw), "/etc/certloom")
		if err == nil {
			t.Fatalf("%s: accepted", name)
		}
		if got := len(strings.Split(err.Error(), "\n")); got != 3 {
			t.Errorf("%s: %d problems, not those of publicUrl, keys and tls:\n%v", name, got, err)
		}
	}
	got, err := config.Parse([]byte(minimal+"acme:\nlisten:\n  http:\nlog: {level: }\n"), "/etc/certloom")
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Parse([]byte(minimal), "/etc/certloom")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadChecksFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "certloom.yaml")
	write(t, path, minimal, 0o644)
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "keys.keyFile: cannot be read") {
		t.Errorf("missing key file: %v", err)
	}
	write(t, filepath.Join(dir, "certloom.key"), "secret", 0o644)
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("key file that others may read: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "certloom.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Errorf("good files: %v", err)
	}
	if _, err := config.Load(filepath.Join(dir, "none.yaml")); err == nil {
		t.Error("missing settings file accepted")
	}
	write(t, path, strings.Repeat("#", 2<<20), 0o644)
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("huge file: %v", err)
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// FuzzParse holds Parse to: no panic, and what it accepts passes Check.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("publicUrl: &a https://x\ntls: *a\n"))
	f.Add([]byte("{{{{[[[["))
	f.Add([]byte("a: !!binary x\n---\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := config.Parse(raw, "/etc/certloom")
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Errorf("accepted what Check refuses: %v", err)
		}
	})
}

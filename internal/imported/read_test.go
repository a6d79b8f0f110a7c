package imported_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/smallstep/pkcs7"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/imported"
	"github.com/certloom/certloom/internal/testca"
)

// files are what people bring: a leaf, its chain, and both in the containers that there are.
type files struct {
	leaf, issuing, root []byte
	key                 []byte // PKCS #8
	pkcs7               []byte
	pkcs12, trustStore  []byte // password "secret"
	slow                []byte // a PKCS #12 that asks for as many rounds as fit
}

func makeFiles(t testing.TB) *files {
	t.Helper()
	h, key := testca.New(t), testca.Key(t)
	leaf := h.Leaf(t, &x509.Certificate{DNSNames: []string{"db.example.com"}}, key.Public())
	f := &files{leaf: leaf.Raw, issuing: h.IssuingCert.Raw, root: h.RootCert.Raw}
	var err error
	fatal := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f.key, err = x509.MarshalPKCS8PrivateKey(key)
	fatal()
	f.pkcs7, err = pkcs7.DegenerateCertificate(append(bytes.Clone(f.leaf), f.issuing...))
	fatal()
	chain := []*x509.Certificate{h.IssuingCert, h.RootCert}
	f.pkcs12, err = pkcs12.Modern2023.Encode(key, leaf, chain, "secret")
	fatal()
	f.trustStore, err = pkcs12.Modern2023.EncodeTrustStore(chain, "secret")
	fatal()
	f.slow = bytes.Replace(bytes.Clone(f.pkcs12), []byte{0x02, 0x02, 0x08, 0x00}, []byte{0x02, 0x02, 0x7f, 0xff}, 1)
	return f
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// told is what Read says of a file, as text.
func told(found *imported.Found) []string {
	lines := []string{}
	for _, c := range found.Certificates {
		name := c.Subject.CommonName
		if len(c.DNSNames) > 0 {
			name = c.DNSNames[0]
		}
		lines = append(lines, c.Where+": "+name)
	}
	for _, p := range found.Problems {
		lines = append(lines, "! "+p.Where+": "+p.Reason)
	}
	return lines
}

func TestRead(t *testing.T) {
	t.Parallel()
	f := makeFiles(t)
	leaf, issuing := block("CERTIFICATE", f.leaf), block("CERTIFICATE", f.issuing)
	lines := strings.Count(leaf, "\n")
	broken := "-----BEGIN CERTIFICATE-----\nMIIB!!!\n-----END CERTIFICATE-----\n"
	for name, test := range map[string]struct {
		data     string
		password string
		want     []string
	}{
		"PEM":                {data: leaf + issuing, want: []string{"line 1: db.example.com", fmt.Sprintf("line %d: Test issuing CA", 1+lines)}},
		"text around":        {data: "# ours\n\n" + leaf + "more\n", want: []string{"line 3: db.example.com"}},
		"Windows lines":      {data: strings.ReplaceAll("x\n"+leaf, "\n", "\r\n"), want: []string{"line 2: db.example.com"}},
		"DER":                {data: string(f.leaf) + string(f.issuing), want: []string{"certificate 1: db.example.com", "certificate 2: Test issuing CA"}},
		"base64":             {data: base64.StdEncoding.EncodeToString(f.leaf), want: []string{"certificate 1: db.example.com"}},
		"PKCS #7":            {data: string(f.pkcs7), want: []string{"certificate 1: db.example.com", "certificate 2: Test issuing CA"}},
		"PKCS #7 in PEM":     {data: block("PKCS7", f.pkcs7), want: []string{"line 1, certificate 1: db.example.com", "line 1, certificate 2: Test issuing CA"}},
		"PKCS #12":           {data: string(f.pkcs12), password: "secret", want: []string{"certificate 1: db.example.com", "certificate 2: Test issuing CA", "certificate 3: Test root"}},
		"trust store":        {data: string(f.trustStore), password: "secret", want: []string{"certificate 1: Test issuing CA", "certificate 2: Test root"}},
		"refuses/password":   {data: string(f.pkcs12), password: "guess", want: []string{"! : password does not open this PKCS #12"}},
		"refuses/private":    {data: block("PRIVATE KEY", f.key) + leaf, want: []string{fmt.Sprintf("line %d: db.example.com", 1+strings.Count(block("PRIVATE KEY", f.key), "\n")), "! line 1: block is a private key, which does not belong here; it was not kept"}},
		"refuses/twice":      {data: leaf + leaf, want: []string{"line 1: db.example.com", fmt.Sprintf("! line %d: certificate is the same as that of line 1", 1+lines)}},
		"refuses/broken":     {data: broken + leaf, want: []string{"line 4: db.example.com", "! line 1: block is no PEM: it has no end, or something else than base64 in it"}},
		"refuses/no end":     {data: "-----BEGIN CERTIFICATE-----\nMIIB\n" + leaf, want: []string{"line 3: db.example.com", "! line 1: block is no PEM: it has no end, or something else than base64 in it"}},
		"refuses/other":      {data: block("X509 CRL", []byte{1}), want: []string{`! line 1: block is "X509 CRL", not a certificate`}},
		"refuses/malformed":  {data: block("CERTIFICATE", f.leaf[:100]) + leaf, want: []string{"line 6: db.example.com", "! line 1: certificate is malformed: malformed certificate"}},
		"refuses/cut off":    {data: string(f.leaf) + string(f.issuing[:50]), want: []string{"certificate 1: db.example.com", "! certificate 2: the 50 bytes from here on are no certificate"}},
		"refuses/large":      {data: block("CERTIFICATE", make([]byte, 65<<10)), want: []string{"! line 1: certificate has 66560 bytes, more than the 65536 that one may have"}},
		"refuses/bad PKCS#7": {data: block("PKCS7", []byte{0x30, 0}), want: []string{"! line 1: PKCS #7 is malformed: asn1: syntax error: sequence truncated"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := imported.Read([]byte(test.data), test.password)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, told(found)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"nothing": nil, "white space": []byte(" \n"), "text": []byte("hello"), "too large": make([]byte, imported.MaxBytes+1),
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			if found, err := imported.Read(data, ""); !fault.Is(err, fault.Malformed) {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
}

// Opening a PKCS #12 takes as many rounds as it says.
func TestSlowPKCS12(t *testing.T) {
	t.Parallel()
	f := makeFiles(t)
	if bytes.Equal(f.slow, f.pkcs12) {
		t.Fatal("the number of rounds was not found")
	}
	for name, rounds := range map[string][]byte{"large": {0x02, 0x04, 0x7f, 0xff, 0xff, 0xff}, "huge": {0x02, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 9}} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			// PFX { version, authSafe, MacData { ..., salt, rounds } }, nothing of which has to be right up to there.
			salt := append([]byte{0x04, 0x01, 0x55}, rounds...)
			mac := append([]byte{0x30, byte(len(salt))}, salt...)
			body := append([]byte{0x02, 0x01, 0x03}, mac...)
			found, err := imported.Read(append([]byte{0x30, byte(len(body))}, body...), "secret")
			if err != nil || len(found.Problems) != 1 || !strings.Contains(found.Problems[0].Reason, "rounds") {
				t.Errorf("got %+v, %v", found, err)
			}
		})
	}
}

func TestManyCertificates(t *testing.T) {
	t.Parallel()
	f := makeFiles(t)
	var text strings.Builder
	for range imported.MaxCertificates + 50 {
		junk := make([]byte, 8)
		if _, err := rand.Read(junk); err != nil {
			t.Fatal(err)
		}
		text.WriteString(block("CERTIFICATE", junk))
	}
	text.WriteString(block("CERTIFICATE", f.leaf))
	found, err := imported.Read([]byte(text.String()), "")
	if err != nil || len(found.Problems) > imported.MaxCertificates+1 {
		t.Errorf("%d problems, %v", len(found.Problems), err)
	}
}

func FuzzRead(f *testing.F) {
	made := makeFiles(f)
	for _, seed := range [][]byte{
		[]byte(block("CERTIFICATE", made.leaf) + block("PKCS7", made.pkcs7)), made.leaf, made.pkcs7, made.pkcs12, made.trustStore, made.slow,
	} {
		f.Add(seed, "secret")
	}
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		found, err := imported.Read(data, password)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		if len(found.Certificates) > imported.MaxCertificates || len(found.Problems) > imported.MaxCertificates+1 {
			t.Errorf("%d certificates and %d problems", len(found.Certificates), len(found.Problems))
		}
		for _, c := range found.Certificates {
			if c.Where == "" || c.Certificate == nil {
				t.Errorf("certificate %+v", c)
			}
		}
	})
}

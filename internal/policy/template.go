package policy

import (
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Names of key usages (RFC 5280 section 4.2.1.3), extended key usages (section 4.2.1.12) and challenges (RFC 8555,
// RFC 8737) as profiles write them.
const (
	usageDigitalSignature = "digitalSignature"
	usageKeyEncipherment  = "keyEncipherment"
	usageKeyAgreement     = "keyAgreement"
	usageCertSign         = "keyCertSign"
	usageCRLSign          = "cRLSign"

	purposeServer = "serverAuth"
	purposeClient = "clientAuth"

	challengeHTTP = "http-01"
	challengeDNS  = "dns-01"
	challengeTLS  = "tls-alpn-01"
)

const day = 24 * time.Hour

// bounds is what a base template leaves open to its profiles.
type bounds struct {
	methods     []pki.EnrollmentMethod
	keyUsage    []string // allowed
	mustUsage   string   // one that has to be there
	extKeyUsage []string // allowed; when there are any, a profile has at least one of them
	maxLifetime time.Duration
	names       bool // the profile's rules allow names
}

// maxLeafLifetime is what Apple's platforms accept of certificates under roots that users installed
// (support.apple.com/HT210176); nothing with a private CA has reason to live longer unattended.
const maxLeafLifetime = 825 * day

// boundsOf returns the bounds of a base template; false for an unknown one.
func boundsOf(t pki.Template) (bounds, bool) {
	leaf := bounds{
		methods:     []pki.EnrollmentMethod{pki.ACMEClient, pki.RESTAPI},
		keyUsage:    []string{usageDigitalSignature, usageKeyEncipherment, usageKeyAgreement},
		mustUsage:   usageDigitalSignature,
		maxLifetime: maxLeafLifetime,
		names:       true,
	}
	switch t {
	case pki.PrivateMTLS:
		leaf.methods = []pki.EnrollmentMethod{pki.MTLSOverACME, pki.ACMEClient, pki.Agent, pki.RESTAPI}
		leaf.extKeyUsage = []string{purposeServer, purposeClient}
		return leaf, true
	case pki.PrivateServer:
		leaf.extKeyUsage = []string{purposeServer}
		return leaf, true
	case pki.PrivateClient:
		leaf.extKeyUsage = []string{purposeClient}
		return leaf, true
	case pki.MeshIntermediate:
		return bounds{
			// Whoever may have a CA is an administrator with an API token, never an ACME client.
			methods:     []pki.EnrollmentMethod{pki.RESTAPI},
			keyUsage:    []string{usageCertSign, usageCRLSign, usageDigitalSignature},
			mustUsage:   usageCertSign,
			maxLifetime: 3650 * day,
		}, true
	default:
		return bounds{}, false
	}
}

// TemplateRules returns the defaults of a base template: what a new profile starts from, and how its certificates are
// asked for unless it says otherwise. The names are left to the profile, so a profile made of nothing else allows
// nothing. An unknown template has zero rules and no method, which CheckProfile refuses.
//
// keyEncipherment is for keys that can encipher: the certificate of an ECDSA or Ed25519 key is made without it (RFC 5480
// section 3, RFC 8410 section 5).
func TemplateRules(t pki.Template) (pki.ProfileRules, pki.EnrollmentMethod) {
	limits, ok := boundsOf(t)
	if !ok {
		return pki.ProfileRules{}, ""
	}
	rules := pki.ProfileRules{
		Validity: pki.Validity{
			Default:       pki.Duration(24 * time.Hour),
			Max:           pki.Duration(7 * day),
			Backdate:      pki.Duration(time.Minute),
			JitterPercent: 10,
		},
		Keys:        []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.RSA3072, pki.RSA4096, pki.Ed25519},
		MaxNames:    100,
		Subject:     pki.SubjectEmpty,
		KeyUsage:    []string{usageDigitalSignature, usageKeyEncipherment},
		ExtKeyUsage: limits.extKeyUsage,
	}
	switch t {
	case pki.PrivateServer, pki.PrivateClient:
		rules.Subject = pki.SubjectCommonName
		rules.Validity.Default = pki.Duration(90 * day)
		rules.Validity.Max = pki.Duration(397 * day)
		return rules, pki.ACMEClient
	case pki.MeshIntermediate:
		rules.Subject = pki.SubjectCommonName
		rules.Validity = pki.Validity{
			Default:  pki.Duration(365 * day),
			Max:      pki.Duration(365 * day),
			Backdate: pki.Duration(time.Minute),
		}
		rules.Keys = []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA3072, pki.RSA4096}
		rules.KeyUsage = []string{usageCertSign, usageCRLSign}
		return rules, pki.RESTAPI
	default:
		return rules, pki.MTLSOverACME
	}
}

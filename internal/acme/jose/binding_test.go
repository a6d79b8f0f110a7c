package jose_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"testing"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/fault"
)

const newAccount = "https://ca.example/acme/new-account"

var hmacKey = bytes.Repeat([]byte{9}, 32)

func bindingHeader(alg string) string {
	return fmt.Sprintf(`{"alg":%q,"kid":"cred-1","url":%q}`, alg, newAccount)
}

func TestBinding(t *testing.T) {
	t.Parallel()
	s := newSigner(t, jose.ES256)
	// EAB-6: the same key in another order of members, with more of them.
	payload := replaced(s.jwk(), `{`, `{"use":"sig",`)
	tests := map[string]string{
		"EAB-2/HS256": mac(sha256.New, hmacKey, bindingHeader("HS256"), payload),
		"EAB-2/HS384": mac(sha512.New384, hmacKey, bindingHeader("HS384"), payload),
		// EAB-9: the key is shorter than the hash.
		"EAB-9/HS512": mac(sha512.New, hmacKey, bindingHeader("HS512"), payload),
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			binding, err := jose.ParseBinding([]byte(raw), newAccount, s.parsed(t))
			if err != nil {
				t.Fatal(err)
			}
			if binding.KID != "cred-1" {
				t.Errorf("kid %q", binding.KID)
			}
			if err := binding.Verify(hmacKey); err != nil {
				t.Errorf("Verify: %v", err)
			}
			// EAB-7: a wrong key and an unknown kid get one answer.
			wrong, unknown := binding.Verify([]byte("another key")), binding.Verify(nil)
			if !fault.Is(wrong, fault.Unauthorized) || !fault.Is(unknown, fault.Unauthorized) || wrong.Error() != unknown.Error() {
				t.Errorf("wrong key: %v; unknown kid: %v; want one unauthorized answer", wrong, unknown)
			}
		})
	}
	// A MAC by the key that stands for an unknown one proves nothing.
	raw := mac(sha256.New, make([]byte, 32), bindingHeader("HS256"), payload)
	binding, err := jose.ParseBinding([]byte(raw), newAccount, s.parsed(t))
	if err != nil {
		t.Fatal(err)
	}
	if binding.Verify(nil) == nil {
		t.Error("MAC by the stand-in for an unknown key passed")
	}
}

func TestBindingRefuses(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t, jose.ES256), newSigner(t, jose.ES256)
	header := bindingHeader("HS256")
	made := func(header, payload string) string { return mac(sha256.New, hmacKey, header, payload) }
	with := func(old, new string) string { return made(replaced(header, old, new), s.jwk()) }
	good := made(header, s.jwk())
	tests := map[string]struct {
		raw  string
		want fault.Kind
	}{
		"EAB-2/none":             {with(`HS256`, `none`), fault.BadSignatureAlgorithm},
		"EAB-2/RS256":            {with(`HS256`, `RS256`), fault.BadSignatureAlgorithm},
		"EAB-2/ES256":            {other.sign(replaced(header, "HS256", "ES256"), s.jwk()), fault.BadSignatureAlgorithm},
		"EAB-2/absent":           {with(`"alg":"HS256",`, ``), fault.BadSignatureAlgorithm},
		"EAB-3/no-kid":           {with(`"kid":"cred-1",`, ``), fault.Malformed},
		"EAB-3/empty-kid":        {with(`cred-1`, ``), fault.Malformed},
		"EAB-3/kid-number":       {with(`"cred-1"`, `1`), fault.Malformed},
		"EAB-4/nonce":            {with(`"kid"`, `"nonce":"bm9uY2U","kid"`), fault.Malformed},
		"EAB-5/other-url":        {with(newAccount, target), fault.Malformed},
		"EAB-5/no-url":           {with(`,"url":"`+newAccount+`"`, ``), fault.Malformed},
		"EAB-5/query":            {with(newAccount, newAccount+"?x"), fault.Malformed},
		"EAB-6/other-key":        {made(header, other.jwk()), fault.Malformed},
		"EAB-6/empty":            {made(header, ``), fault.Malformed},
		"EAB-6/object":           {made(header, `{}`), fault.BadPublicKey},
		"EAB-6/private":          {made(header, replaced(s.jwk(), `{`, `{"d":"AA",`)), fault.Malformed},
		"EAB-8/jwk":              {with(`"kid"`, `"jwk":`+s.jwk()+`,"kid"`), fault.Malformed},
		"EAB-8/header":           {replaced(good, `{`, `{"header":{},`), fault.Malformed},
		"EAB-8/signatures":       {replaced(good, `{`, `{"signatures":[],`), fault.Malformed},
		"EAB-8/compact":          {`"` + member(good, "protected") + "." + member(good, "payload") + "." + member(good, "signature") + `"`, fault.Malformed},
		"EAB-8/null":             {`null`, fault.Malformed},
		"EAB-8/object":           {`{}`, fault.Malformed},
		"EAB-8/crit":             {with(`"kid"`, `"crit":["b64"],"b64":false,"kid"`), fault.Malformed},
		"EAB-8/duplicate-kid":    {with(`"kid"`, `"kid":"cred-2","kid"`), fault.Malformed},
		"EAB-8/signature-padded": {replaced(good, member(good, "signature"), member(good, "signature")+"="), fault.Malformed},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			if _, err := jose.ParseBinding([]byte(test.raw), newAccount, s.parsed(t)); !fault.Is(err, test.want) {
				t.Errorf("ParseBinding: %v; want %s", err, test.want)
			}
		})
	}
	for name, raw := range map[string]string{
		"other-payload": replaced(good, member(good, "payload"), b64.EncodeToString([]byte(s.jwk()+" "))),
		"empty-mac":     replaced(good, member(good, "signature"), ""),
		"cut-mac":       replaced(good, member(good, "signature"), member(good, "signature")[:20]),
		"other-kid":     replaced(good, member(good, "protected"), b64.EncodeToString([]byte(replaced(header, "cred-1", "cred-2")))),
	} {
		t.Run("refuses/MAC/"+name, func(t *testing.T) {
			t.Parallel()
			binding, err := jose.ParseBinding([]byte(raw), newAccount, s.parsed(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := binding.Verify(hmacKey); !fault.Is(err, fault.Unauthorized) {
				t.Errorf("Verify: %v; want unauthorized", err)
			}
		})
	}
}

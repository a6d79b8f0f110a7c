package jose_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/fault"
)

func TestParseAndVerify(t *testing.T) {
	t.Parallel()
	for _, alg := range jose.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			s := newSigner(t, alg)
			message, err := jose.Parse([]byte(s.sign(s.header(), `{"a":1}`)))
			if err != nil {
				t.Fatal(err)
			}
			want := jose.Header{Alg: alg, Nonce: "bm9uY2U", URL: target, JWK: s.parsed(t)}
			if diff := cmp.Diff(want, message.Header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if string(message.Payload) != `{"a":1}` {
				t.Errorf("payload %q", message.Payload)
			}
			if err := message.Verify(message.Header.JWK); err != nil {
				t.Errorf("Verify: %v", err)
			}
			// POST-as-GET with a kid, signed by another implementation.
			message, err = jose.Parse(goJOSE(t, s))
			if err != nil {
				t.Fatal(err)
			}
			if message.Header.KID != account || message.Header.JWK != nil || len(message.Payload) != 0 {
				t.Errorf("kid %q, jwk %v, payload %q", message.Header.KID, message.Header.JWK, message.Payload)
			}
			if err := message.Verify(s.parsed(t)); err != nil {
				t.Errorf("Verify: %v", err)
			}
			if err := message.Verify(newSigner(t, jose.ES256).parsed(t)); !fault.Is(err, fault.Malformed) {
				t.Errorf("Verify with another key: %v; want malformed", err)
			}
		})
	}
}

// goJOSE returns a POST-as-GET that go-jose signed.
func goJOSE(t *testing.T, s signer) []byte {
	t.Helper()
	options := &gojose.SignerOptions{}
	options.WithHeader("kid", account).WithHeader("nonce", "bm9uY2U").WithHeader("url", target)
	other, err := gojose.NewSigner(gojose.SigningKey{Algorithm: gojose.SignatureAlgorithm(s.alg), Key: s.key}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := other.Sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize() // the other form leaves an empty payload out
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(compact, ".")
	return []byte(flattened(parts[0], parts[1], parts[2]))
}

// Attacks on the form. Each changes one thing of a good request, and is signed anew where it could be.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	s := newSigner(t, jose.ES256)
	good := s.sign(s.header(), "{}")
	kid := s.kidHeader()
	signed := func(header string) string { return s.sign(header, "{}") }
	with := func(old, new string) string { return signed(replaced(s.header(), old, new)) }
	protected, payload, signature := member(good, "protected"), member(good, "payload"), member(good, "signature")
	tests := map[string]struct {
		body string
		want fault.Kind
	}{
		"JWS-2/compact":            {protected + "." + payload + "." + signature, fault.Malformed},
		"JWS-2/string":             {`"` + protected + `"`, fault.Malformed},
		"JWS-2/empty":              {"", fault.Malformed},
		"JWS-3/general":            {fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, payload, protected, signature), fault.Malformed},
		"JWS-3/both":               {replaced(good, `"payload"`, `"signatures":[],"payload"`), fault.Malformed},
		"JWS-4/header":             {replaced(good, `"payload"`, `"header":{},"payload"`), fault.Malformed},
		"JWS-4/Header":             {replaced(good, `"payload"`, `"Header":{"alg":"none"},"payload"`), fault.Malformed},
		"JWS-5/none":               {with(`"ES256"`, `"none"`), fault.BadSignatureAlgorithm},
		"JWS-5/None":               {with(`"ES256"`, `"None"`), fault.BadSignatureAlgorithm},
		"JWS-5/absent":             {with(`"alg":"ES256",`, ``), fault.BadSignatureAlgorithm},
		"JWS-5/empty":              {with(`"ES256"`, `""`), fault.BadSignatureAlgorithm},
		"JWS-5/number":             {with(`"ES256"`, `256`), fault.Malformed},
		"JWS-5/null":               {with(`"ES256"`, `null`), fault.Malformed},
		"JWS-6/HS256":              {with(`"ES256"`, `"HS256"`), fault.BadSignatureAlgorithm},
		"JWS-6/HS512":              {with(`"ES256"`, `"HS512"`), fault.BadSignatureAlgorithm},
		"JWS-7/RS256":              {with(`"ES256"`, `"RS256"`), fault.BadSignatureAlgorithm},
		"JWS-7/ES384":              {with(`"ES256"`, `"ES384"`), fault.BadSignatureAlgorithm},
		"JWS-7/PS256":              {with(`"ES256"`, `"PS256"`), fault.BadSignatureAlgorithm},
		"JWS-11/ES512":             {with(`"ES256"`, `"ES512"`), fault.BadSignatureAlgorithm},
		"JWS-19/both":              {with(`"jwk"`, `"kid":"https://ca.example/acme/account/1","jwk"`), fault.Malformed},
		"JWS-19/empty-kid":         {with(`"jwk"`, `"kid":"","jwk"`), fault.Malformed},
		"JWS-19/null-jwk":          {signed(replaced(kid, `"kid"`, `"jwk":null,"kid"`)), fault.Malformed},
		"JWS-20/neither":           {signed(replaced(kid, `"kid":"`+account+`",`, ``)), fault.Malformed},
		"JWS-20/empty-kid":         {signed(replaced(kid, account, ``)), fault.Malformed},
		"JWS-20/null-kid":          {signed(replaced(kid, `"`+account+`"`, `null`)), fault.Malformed},
		"JWS-26/no-url":            {with(`,"url":"`+target+`"`, ``), fault.Unauthorized},
		"JWS-26/null-url":          {with(`"`+target+`"`, `null`), fault.Malformed},
		"NON-7/no-nonce":           {with(`"nonce":"bm9uY2U",`, ``), fault.BadNonce},
		"NON-7/empty":              {with(`bm9uY2U`, ``), fault.Malformed},
		"NON-7/padded":             {with(`bm9uY2U`, `bm9uY2U=`), fault.Malformed},
		"NON-7/standard":           {with(`bm9uY2U`, `bm9u+/U`), fault.Malformed},
		"JWS-27/alg":               {with(`"jwk"`, `"alg":"none","jwk"`), fault.Malformed},
		"JWS-27/nonce":             {with(`"jwk"`, `"nonce":"bm9uY2U","jwk"`), fault.Malformed},
		"JWS-27/url":               {with(`"jwk"`, `"url":"`+target+`","jwk"`), fault.Malformed},
		"JWS-27/kid":               {signed(replaced(kid, `"kid"`, `"kid":"x","kid"`)), fault.Malformed},
		"JWS-27/escaped":           {with(`"jwk"`, `"\u0061lg":"none","jwk"`), fault.Malformed},
		"JWS-27/in-jwk":            {with(`"kty":"EC"`, `"kty":"EC","kty":"EC"`), fault.Malformed},
		"JWS-27/deep":              {with(`"jwk"`, `"x":[{"a":1,"a":2}],"jwk"`), fault.Malformed},
		"JWS-28/KID-instead":       {signed(replaced(kid, `"kid"`, `"KID"`)), fault.Malformed},
		"JWS-28/Url-beside":        {with(`"jwk"`, `"Url":"x","jwk"`), fault.Malformed},
		"JWS-28/JWK-beside":        {with(`"jwk"`, `"JWK":{},"jwk"`), fault.Malformed},
		"JWS-28/kelvin-sign":       {signed(replaced(kid, `"kid"`, `"\u212aid":"x","kid"`)), fault.Malformed},
		"JWS-29/payload":           {replaced(good, `"payload"`, `"payload":"","payload"`), fault.Malformed},
		"JWS-29/Payload":           {replaced(good, `"payload"`, `"Payload":"","payload"`), fault.Malformed},
		"JWS-29/Payload-alone":     {replaced(good, `"payload"`, `"Payload"`), fault.Malformed},
		"JWS-30/b64":               {with(`"jwk"`, `"b64":false,"jwk"`), fault.Malformed},
		"JWS-30/crit":              {with(`"jwk"`, `"b64":false,"crit":["b64"],"jwk"`), fault.Malformed},
		"JWS-31/unknown":           {with(`"jwk"`, `"crit":["exp"],"exp":1,"jwk"`), fault.Malformed},
		"JWS-31/empty":             {with(`"jwk"`, `"crit":[],"jwk"`), fault.Malformed},
		"JWS-31/absent":            {with(`"jwk"`, `"crit":["exp"],"jwk"`), fault.Malformed},
		"JWS-31/null":              {with(`"jwk"`, `"crit":null,"jwk"`), fault.Malformed},
		"JWS-32/detached":          {replaced(good, `"payload":"`+payload+`",`, ``), fault.Malformed},
		"JWS-32/null":              {replaced(good, `"`+payload+`"`, `null`), fault.Malformed},
		"JWS-33/protected-padded":  {replaced(good, protected, protected+"="), fault.Malformed},
		"JWS-33/payload-padded":    {replaced(good, `"e30"`, `"e30="`), fault.Malformed},
		"JWS-33/payload-bits":      {replaced(good, `"e30"`, `"e31"`), fault.Malformed},
		"JWS-33/payload-line-end":  {replaced(good, `"e30"`, `"e3\n0"`), fault.Malformed},
		"JWS-33/payload-return":    {replaced(good, `"e30"`, `"e30\r"`), fault.Malformed},
		"JWS-33/payload-space":     {replaced(good, `"e30"`, `"e30 "`), fault.Malformed},
		"JWS-33/payload-standard":  {replaced(good, `"e30"`, `"+/+/"`), fault.Malformed},
		"JWS-33/signature-padded":  {replaced(good, signature, signature+"=="), fault.Malformed},
		"JWS-33/signature-tabs":    {replaced(good, signature, `\t`+signature), fault.Malformed},
		"JWS-36/header-array":      {signed(`[]`), fault.Malformed},
		"JWS-36/header-text":       {signed(`hello`), fault.Malformed},
		"JWS-36/header-empty":      {signed(``), fault.Malformed},
		"JWS-36/header-cut":        {signed(s.header()[:40]), fault.Malformed},
		"JWS-36/header-trailing":   {signed(s.header() + "{}"), fault.Malformed},
		"JWS-36/trailing":          {good + "{}", fault.Malformed},
		"JWS-36/header-nested":     {with(`"jwk"`, `"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`,"jwk"`), fault.Malformed},
		"JWS-36/brackets":          {strings.Repeat("[", 1<<20), fault.Malformed},
		"JWS-36/objects":           {strings.Repeat(`{"a":`, 10000), fault.Malformed},
		"JWS-36/nul":               {replaced(good, `"payload"`, "\"a\x00\":1,\"payload\""), fault.Malformed},
		"JWS-36/utf8":              {replaced(good, `"payload"`, "\"a\xff\":1,\"payload\""), fault.Malformed},
		"JWS-36/surrogate":         {replaced(good, `"payload"`, `"a":"\ud800","payload"`), fault.Malformed},
		"JWS-36/surrogate-escaped": {replaced(good, `"payload"`, `"a":"\ud800\u0041","payload"`), fault.Malformed},
		"JWS-36/number":            {replaced(good, `"payload"`, `"a":1e999999,"payload"`), fault.Malformed},
		"JWS-36/long-number":       {replaced(good, `"payload"`, `"a":`+strings.Repeat("9", 1000)+`,"payload"`), fault.Malformed},
		"JWS-36/members":           {replaced(good, `"payload"`, members(40)+`,"payload"`), fault.Malformed},
		"JWS-37/header":            {with(`"jwk"`, `"x":"`+strings.Repeat("a", 8<<10)+`","jwk"`), fault.Malformed},
		"JWS-37/size":              {strings.Repeat(" ", 1<<20) + good, fault.TooLarge},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			_, err := jose.Parse([]byte(test.body))
			if !fault.Is(err, test.want) {
				t.Fatalf("Parse: %v; want %s", err, test.want)
			}
			found := fault.From(err)
			if test.want == fault.BadSignatureAlgorithm && len(found.Algorithms) == 0 {
				t.Error("badSignatureAlgorithm without algorithms (RFC 8555 section 6.2)")
			}
			if len(found.Public) > 500 {
				t.Errorf("sentence of %d bytes", len(found.Public))
			}
		})
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":0`, i)
	}
	return b.String()[1:]
}

// What RFC 7515 says must be ignored is ignored, keys that are offered on the side among it.
func TestParseIgnores(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t, jose.ES256), newSigner(t, jose.ES256)
	tests := map[string]string{
		"JWS-39/jku": replaced(s.kidHeader(), `"kid"`, `"jku":"http://127.0.0.1:1/","kid"`),
		"JWS-39/x5u": replaced(s.kidHeader(), `"kid"`, `"x5u":"http://127.0.0.1:1/","kid"`),
		"JWS-39/x5c": replaced(s.kidHeader(), `"kid"`, `"x5c":["MIIB"],"kid"`),
		"typ":        replaced(s.kidHeader(), `"kid"`, `"typ":"JOSE+JSON","kid"`),
		"escapes":    replaced(s.kidHeader(), `"kid"`, `"\u006bid"`),
		"spaces":     " \t\r\n" + s.kidHeader() + "\n",
		"numbers":    replaced(s.kidHeader(), `"kid"`, `"x":[0,-0,1.5,-1e3,1E+2,10,true,false,null,{}],"kid"`),
	}
	for name, header := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message, err := jose.Parse([]byte(s.sign(header, "{}")))
			if err != nil {
				t.Fatal(err)
			}
			if message.Header.KID != account || message.Verify(s.parsed(t)) != nil || message.Verify(other.parsed(t)) == nil {
				t.Errorf("kid %q; want the account's, verified by its key only", message.Header.KID)
			}
		})
	}
	body := replaced(s.sign(s.kidHeader(), ""), `"payload"`, `"extra":[1,{"a":"\ud83d\ude00\n\"\\\/\b\f\r\t"}],"payload"`)
	if _, err := jose.Parse([]byte(body)); err != nil {
		t.Errorf("unknown member beside the three (RFC 7515 section 7.2.1): %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for _, alg := range jose.Algorithms() {
		s := newSigner(t, alg)
		good := s.sign(s.kidHeader(), `{"a":1}`)
		protected, payload, signature := member(good, "protected"), member(good, "payload"), member(good, "signature")
		raw, err := b64.DecodeString(signature)
		if err != nil {
			t.Fatal(err)
		}
		encode := func(raw []byte) string { return flattened(protected, payload, b64.EncodeToString(raw)) }
		half := len(raw) / 2
		flipped := bytes.Clone(raw)
		flipped[half] ^= 1
		tests := map[string]string{
			"JWS-35/flipped":        encode(flipped),
			"JWS-35/empty":          encode(nil),
			"JWS-35/other-payload":  replaced(good, payload, b64.EncodeToString([]byte(`{"a":2}`))),
			"JWS-35/empty-payload":  replaced(good, payload, ""),
			"JWS-35/other-header":   replaced(good, protected, b64.EncodeToString([]byte(replaced(s.kidHeader(), "bm9uY2U", "bm9uY2V")))),
			"JWS-34/short":          encode(raw[:len(raw)-1]),
			"JWS-34/long":           encode(append(bytes.Clone(raw), 0)),
			"JWS-34/leading-zero":   encode(append([]byte{0}, raw...)),
			"JWS-34/zero":           encode(make([]byte, len(raw))),
			"JWS-34/r-zero":         encode(append(make([]byte, half), raw[half:]...)),
			"JWS-34/s-zero":         encode(append(bytes.Clone(raw[:half]), make([]byte, half)...)),
			"JWS-34/all-ones":       encode(bytes.Repeat([]byte{0xff}, len(raw))),
			"JWS-34/der":            encode(derSignature(t, raw)),
			"JWS-34/very-long":      encode(make([]byte, 10000)),
			"JWS-24/by-another-key": newSigner(t, jose.ES256).sign(s.kidHeader(), `{"a":1}`),
		}
		for name, body := range tests {
			t.Run("refuses/"+alg+"/"+name, func(t *testing.T) {
				t.Parallel()
				message, err := jose.Parse([]byte(body))
				if err != nil {
					t.Fatal(err)
				}
				if err := message.Verify(s.parsed(t)); !fault.Is(err, fault.Malformed) {
					t.Errorf("Verify: %v; want malformed", err)
				}
			})
		}
	}
}

// derSignature makes r and s an ASN.1 sequence, as most libraries give ECDSA signatures.
func derSignature(t *testing.T, raw []byte) []byte {
	t.Helper()
	half := len(raw) / 2
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The other curve's half: r and s may not be at or above the order of the curve, though smaller values mean the same.
func TestVerifyRefusesLargeNumbers(t *testing.T) {
	t.Parallel()
	s := newSigner(t, jose.ES256)
	order, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	limit := new(big.Int).Lsh(big.NewInt(1), 256)
	good := s.sign(s.kidHeader(), "{}")
	raw, err := b64.DecodeString(member(good, "signature"))
	if err != nil {
		t.Fatal(err)
	}
	for i, half := range [][]byte{raw[:32], raw[32:]} {
		bigger := new(big.Int).Add(new(big.Int).SetBytes(half), order)
		if bigger.Cmp(limit) >= 0 {
			bigger.Set(order)
		}
		changed := bytes.Clone(raw)
		bigger.FillBytes(changed[32*i : 32*i+32])
		message, err := jose.Parse([]byte(replaced(good, member(good, "signature"), b64.EncodeToString(changed))))
		if err != nil {
			t.Fatal(err)
		}
		if err := message.Verify(s.parsed(t)); err == nil {
			t.Errorf("number %d at or above the order passed", i)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type order struct {
		Identifiers []struct {
			Type, Value string
		} `json:"identifiers"`
		NotAfter *string `json:"notAfter"`
	}
	var into order
	if err := jose.Decode([]byte(`{"identifiers":[{"type":"dns","value":"a.example"}],"status":"ready","extra":{"a":[1]}}`), &into); err != nil {
		t.Fatal(err)
	}
	if len(into.Identifiers) != 1 || into.Identifiers[0].Value != "a.example" {
		t.Errorf("got %+v", into)
	}
	for name, payload := range map[string]string{
		"empty":        ``,
		"array":        `[]`,
		"null":         `null`,
		"string":       `"a"`,
		"cut":          `{"identifiers":[`,
		"trailing":     `{}{}`,
		"type":         `{"identifiers":{}}`,
		"nested-type":  `{"identifiers":[{"type":1}]}`,
		"twice":        `{"notAfter":"a","notAfter":"b"}`,
		"case-variant": `{"notAfter":"a","NotAfter":"b"}`,
		"long-s":       `{"identifiers":[],"identifier` + "ſ" + `":[]}`,
		"deep-twice":   `{"x":[{"y":{"a":1,"A":1}}]}`,
		"nested":       `{"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
		"huge-number":  `{"x":1e999999}`,
		"bad-number":   `{"x":01}`,
		"plus":         `{"x":+1}`,
		"no-fraction":  `{"x":1.}`,
		"no-integer":   `{"x":.1}`,
		"no-exponent":  `{"x":1e}`,
		"minus":        `{"x":-}`,
		"two-minus":    `{"x":--1}`,
		"nan":          `{"x":NaN}`,
		"nul":          `{"notAfter":"\u0000"}`,
		"surrogate":    `{"notAfter":"\udc00"}`,
		"escape":       `{"notAfter":"\x41"}`,
		"hex":          `{"notAfter":"\u00g0"}`,
		"cut-hex":      `{"notAfter":"\u00`,
		"control":      "{\"notAfter\":\"\n\"}",
		"utf8":         "{\"notAfter\":\"\xc3\x28\"}",
		"comma":        `{"notAfter":"a",}`,
		"array-comma":  `{"x":[1,]}`,
		"colon":        `{"notAfter" "a"}`,
		"bare-name":    `{notAfter:"a"}`,
		"literal":      `{"x":nul}`,
		"form-feed":    "{\f}",
		"bom":          "\xef\xbb\xbf{}",
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			var into order
			if err := jose.Decode([]byte(payload), &into); !fault.Is(err, fault.Malformed) {
				t.Errorf("Decode: %v; want malformed", err)
			}
		})
	}
}

// The scanner takes nothing that the standard library refuses.
func TestScannerAgainstStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`0`, `-0`, `0.0`, `1e1`, `1E-1`, `1e+1`, `-1.25e-7`, `00`, `-01`, `1..2`, `1e1e1`, `1-2`, `0x1`, `1_0`, `Inf`, `""`, `"\""`,
		`[]`, `[[]]`, `[1 2]`, `{}`, `tru`, `truefalse`, `1 2`, `"a""b"`, `[}`, `{]`,
	} {
		text := []byte(`{"x":` + value + `}`)
		var into struct{}
		if ours, theirs := jose.Decode(text, &into) == nil, json.Valid(text); ours != theirs {
			t.Errorf("%s: taken %t, by the standard library %t", value, ours, theirs)
		}
	}
}

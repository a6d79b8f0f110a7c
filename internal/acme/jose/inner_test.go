package jose_test

import (
	"fmt"
	"testing"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/fault"
)

const keyChange = "https://ca.example/acme/key-change"

func innerHeader(s signer) string {
	return fmt.Sprintf(`{"alg":%q,"jwk":%s,"url":%q}`, s.alg, s.jwk(), keyChange)
}

func TestParseInner(t *testing.T) {
	t.Parallel()
	old := newSigner(t, jose.RS256)
	for _, alg := range jose.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			fresh := newSigner(t, alg)
			payload := fmt.Sprintf(`{"account":%q,"oldKey":%s,"extra":1}`, account, old.jwk())
			change, err := jose.ParseInner([]byte(fresh.sign(innerHeader(fresh), payload)), keyChange)
			if err != nil {
				t.Fatal(err)
			}
			if change.Account != account || change.OldKey.Thumbprint != old.parsed(t).Thumbprint || change.NewKey.Thumbprint != fresh.parsed(t).Thumbprint {
				t.Errorf("got %+v", change)
			}
		})
	}
}

func TestParseInnerRefuses(t *testing.T) {
	t.Parallel()
	old, fresh := newSigner(t, jose.ES256), newSigner(t, jose.ES256)
	header, payload := innerHeader(fresh), fmt.Sprintf(`{"account":%q,"oldKey":%s}`, account, old.jwk())
	good := fresh.sign(header, payload)
	with := func(old, new string) string { return fresh.sign(replaced(header, old, new), payload) }
	says := func(payload string) string { return fresh.sign(header, payload) }
	tests := map[string]struct {
		raw  string
		want fault.Kind
	}{
		"KEY-3/compact":      {member(good, "protected") + "." + member(good, "payload") + "." + member(good, "signature"), fault.Malformed},
		"KEY-3/empty":        {``, fault.Malformed},
		"KEY-3/object":       {`{}`, fault.Malformed},
		"KEY-3/kid":          {with(`"jwk":`+fresh.jwk(), `"kid":"x"`), fault.Malformed},
		"KEY-3/both":         {with(`"jwk"`, `"kid":"x","jwk"`), fault.Malformed},
		"KEY-3/empty-kid":    {with(`"jwk"`, `"kid":"","jwk"`), fault.Malformed},
		"KEY-3/MAC":          {with(`ES256`, `HS256`), fault.BadSignatureAlgorithm},
		"KEY-3/none":         {with(`ES256`, `none`), fault.BadSignatureAlgorithm},
		"KEY-3/other-alg":    {with(`ES256`, `ES384`), fault.BadSignatureAlgorithm},
		"KEY-3/weak":         {fresh.sign(fmt.Sprintf(`{"alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"},"url":%q}`, keyChange), payload), fault.BadPublicKey},
		"KEY-3/private":      {with(`{"kty"`, `{"d":"AA","kty"`), fault.Malformed},
		"KEY-4/by-old-key":   {old.sign(header, payload), fault.Malformed},
		"KEY-4/empty":        {replaced(good, member(good, "signature"), ""), fault.Malformed},
		"KEY-4/other":        {replaced(good, member(good, "payload"), b64.EncodeToString([]byte(payload+" "))), fault.Malformed},
		"KEY-5/other-url":    {with(keyChange, target), fault.Malformed},
		"KEY-5/no-url":       {with(`,"url":"`+keyChange+`"`, ``), fault.Malformed},
		"KEY-6/nonce":        {with(`"jwk"`, `"nonce":"bm9uY2U","jwk"`), fault.Malformed},
		"KEY-7/no-account":   {says(fmt.Sprintf(`{"oldKey":%s}`, old.jwk())), fault.Malformed},
		"KEY-7/number":       {says(fmt.Sprintf(`{"account":1,"oldKey":%s}`, old.jwk())), fault.Malformed},
		"KEY-7/twice":        {says(replaced(payload, `{`, `{"account":"x",`)), fault.Malformed},
		"KEY-7/case":         {says(replaced(payload, `{`, `{"Account":"x",`)), fault.Malformed},
		"KEY-8/no-key":       {says(replaced(payload, old.jwk(), `"x"`)), fault.Malformed},
		"KEY-9/no-old-key":   {says(fmt.Sprintf(`{"account":%q}`, account)), fault.Malformed},
		"KEY-9/null":         {says(fmt.Sprintf(`{"account":%q,"oldKey":null}`, account)), fault.Malformed},
		"payload/array":      {says(`[]`), fault.Malformed},
		"payload/empty":      {says(``), fault.Malformed},
		"JWS-4/header":       {replaced(good, `{`, `{"header":{},`), fault.Malformed},
		"JWS-3/signatures":   {replaced(good, `{`, `{"signatures":[],`), fault.Malformed},
		"JWS-31/crit":        {with(`"jwk"`, `"crit":["x"],"jwk"`), fault.Malformed},
		"JWS-33/not-base64":  {replaced(good, member(good, "payload"), "+"), fault.Malformed},
		"JWS-33/signature":   {replaced(good, member(good, "signature"), "="), fault.Malformed},
		"JWS-33/protected":   {replaced(good, member(good, "protected"), "="), fault.Malformed},
		"JWS-33/not-a-text":  {replaced(good, `"`+member(good, "protected")+`"`, "1"), fault.Malformed},
		"JWS-20/no-key":      {with(`"jwk":`+fresh.jwk()+`,`, ``), fault.Malformed},
		"JWS-32/no-payload":  {replaced(good, `"payload":"`+member(good, "payload")+`",`, ``), fault.Malformed},
		"JWS-32/no-header":   {replaced(good, `"protected":"`+member(good, "protected")+`",`, ``), fault.Malformed},
		"JWS-35/no-sig":      {replaced(good, `,"signature":"`+member(good, "signature")+`"`, ``), fault.Malformed},
		"JWS-27/inner-twice": {with(`"jwk"`, `"alg":"ES256","jwk"`), fault.Malformed},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			if _, err := jose.ParseInner([]byte(test.raw), keyChange); !fault.Is(err, test.want) {
				t.Errorf("ParseInner: %v; want %s", err, test.want)
			}
		})
	}
}

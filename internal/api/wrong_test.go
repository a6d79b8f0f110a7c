package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAllThatIsWrongAtOnce sends several wrong members to each operation that takes some: each is named, as a JSON pointer, in
// one answer.
func TestAllThatIsWrongAtOnce(t *testing.T) {
	t.Parallel()
	a, all := besiege(t)
	long := strings.Repeat("x", 300)
	cases := map[string]struct {
		body string
		want []string
	}{
		"login":                  {`{"user":1,"password":[],"code":{}}`, []string{"/code", "/password", "/user"}},
		"change-own-password":    {`{"old":1,"new":2}`, []string{"/new", "/old"}},
		"begin-second-factor":    {`{"password":1,"x":2}`, []string{"/password", "/x"}},
		"confirm-second-factor":  {`{"ticket":1,"code":2}`, []string{"/code", "/ticket"}},
		"make-recovery-codes":    {`{"password":1,"code":2}`, []string{"/code", "/password"}},
		"disable-second-factor":  {`{"password":1,"code":2}`, []string{"/code", "/password"}},
		"create-user":            {`{"name":"Bad Name","password":"short","role":"king","email":"nobody","displayName":"` + long + `"}`, []string{"/displayName", "/email", "/name", "/password", "/role"}},
		"update-user":            {`{"role":"king","email":"nobody","displayName":"` + long + `"}`, []string{"/displayName", "/email", "/role"}},
		"create-token":           {`{"name":"Bad Name","role":"king","expiresAt":"2001-01-01T00:00:00Z"}`, []string{"/expiresAt", "/name", "/role"}},
		"create-view":            {`{"list":"events","name":" ","columns":[""]}`, []string{"/columns", "/list", "/name"}},
		"update-view":            {`{"list":"events","name":" ","columns":[""]}`, []string{"/columns", "/list", "/name"}},
		"create-ca":              {`{"name":"Bad Name","kind":"root","keyAlgorithm":"dsa"}`, []string{"/keyAlgorithm", "/name"}},
		"import-ca":              {`{"name":"Bad Name","certificate":"x","key":"y"}`, []string{"", "/certificate"}},
		"install-ca-certificate": {`{"certificate":1,"chain":2}`, []string{"/certificate", "/chain"}},
		"update-ca-settings":     {`{"crlUrls":["ftp://x"],"ocspUrls":["mailto:x"],"issuerUrls":["x"]}`, []string{"/crlUrls/0", "/issuerUrls/0", "/ocspUrls/0"}},
		"create-profile":         {`{"name":"X","template":"private-server","issuingCa":"nope","method":"agent","rules":{"validity":{"default":"soon","max":"-1h"},"keys":["dsa"],"retention":"1s"}}`, []string{"/issuingCa", "/method", "/name", "/rules/keys/0", "/rules/names", "/rules/retention", "/rules/validity/default", "/rules/validity/max"}},
		"update-profile":         {`{"version":1,"rules":{"validity":{"default":"soon","max":"-1h"},"keys":["dsa"]}}`, []string{"/rules/keys/0", "/rules/validity/default", "/rules/validity/max"}},
		"clone-profile":          {`{"name":1,"x":2}`, []string{"/name", "/x"}},
		"create-credential":      {`{"profile":"nope","name":"Bad Name","expiresAt":"2001-01-01T00:00:00Z","maxAccounts":-1}`, []string{"/expiresAt", "/maxAccounts", "/name", "/profile"}},
		"create-connector":       {`{"name":"Bad Name","profile":"istio","credential":"Bad Name","mode":"agent","dataplane":"sidecar","trustDomain":"x y","email":"z"}`, []string{"/credential", "/email", "/mode", "/name", "/trustDomain"}},
		"create-certificate":     {`{"profile":"nope","csr":"x","validity":"soon"}`, []string{"/csr", "/profile", "/validity"}},
		"revoke-ca":              {`{"x":1,"y":2}`, []string{"/x", "/y"}},
		"revoke-certificate":     {`{"x":1,"y":2}`, []string{"/x", "/y"}},
		"revoke-certificates":    {`{"serials":["zz"],"reason":"because"}`, []string{"/reason", "/serials/0"}},
		"retire-identities":      {`{"names":["a.example","b.example"]}`, []string{"/names/0", "/names/1"}},
		"restore-identities":     {`{"names":["a.example","b.example"]}`, []string{"/names/0", "/names/1"}},
		"import-certificates":    {`{"data":1,"password":2}`, []string{"/data", "/password"}},
		"create-denial":          {`{"identity":"*","pod":"x","until":"2001-01-01T00:00:00Z","note":"` + strings.Repeat("n", 3000) + `"}`, []string{"/identity", "/note", "/until"}},
		"create-alert-rule":      {`{"name":"Bad Name","kind":"weather","severity":"fatal","resolved":true,"groupBy":"x"}`, []string{"/groupBy", "/kind", "/name", "/severity"}},
		"update-alert-rule":      {`{"enabled":1,"resolved":2}`, []string{"/enabled", "/resolved"}},
		"create-channel":         {`{"name":"Bad Name","kind":"pigeon"}`, []string{"/kind", "/name"}},
		"update-channel":         {`{"enabled":1,"port":"x"}`, []string{"/enabled", "/port"}},
		"check-policy":           {`{"profile":"nope","spiffeId":1,"dns":2}`, []string{"/dns", "/spiffeId"}},
		"preview-policy":         {`{"profile":1,"draft":2}`, []string{"/draft", "/profile"}},
	}
	seen := map[string]bool{}
	for _, o := range all {
		if o.route.Body == nil {
			continue
		}
		seen[o.route.ID] = true
		c, ok := cases[o.route.ID]
		if !ok {
			t.Errorf("%s takes a body, but nothing wrong is sent to it", o.route.ID)
			continue
		}
		answer := admin(t, a.World, o.method, o.address("", ""), c.body, nil)
		got := fields(answer.Problem)
		if answer.Status != http.StatusBadRequest || len(got) < 2 {
			t.Errorf("%s: %d, fields %v: %.300s", o.route.ID, answer.Status, got, answer.Body)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s%.400s", o.route.ID, diff, answer.Body)
		}
	}
	for id := range cases {
		if !seen[id] {
			t.Errorf("there is no operation %s that takes a body", id)
		}
	}
}

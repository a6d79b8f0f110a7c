package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

func TestViews(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, admin, viewer := t.Context(), w.Client(t, pki.RoleAdmin), w.Client(t, pki.RoleRequester)
	made, err := admin.CreateView(ctx, apiv1.SaveView{List: "identities", Name: "shop", Filters: map[string]string{"namespace": "shop"}, Shared: true})
	if err != nil || !made.Mine {
		t.Fatalf("%+v, %v", made, err)
	}
	own, err := viewer.CreateView(ctx, apiv1.SaveView{List: "certificates", Name: "new", Filters: map[string]string{"issuedWithin": "1h"}})
	if err != nil {
		t.Fatal(err)
	}
	seen := func(client *apiv1.Client) string {
		page, err := client.Views(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range page.Items {
			if !v.System {
				names = append(names, v.Name)
			}
		}
		return strings.Join(names, " ")
	}
	if a, v := seen(admin), seen(viewer); a != "shop" || v != "new shop" {
		t.Errorf("the administrator sees %q, the other %q", a, v)
	}
	if err := viewer.DeleteView(ctx, made.ID); err == nil {
		t.Error("a view of somebody else was deleted")
	}
	if changed, err := viewer.UpdateView(ctx, own.ID, apiv1.SaveView{List: "certificates", Name: "newest"}); err != nil || changed.Name != "newest" || len(changed.Filters) != 0 || changed.CreatedAt.IsZero() {
		t.Errorf("%+v, %v", changed, err)
	}
	if err := admin.DeleteView(ctx, own.ID); err != nil {
		t.Errorf("an administrator: %v", err)
	}
	for name, tt := range map[string]struct {
		body   string
		status int
		field  string
	}{
		"refuses/list":    {`{"list":"events","name":"a"}`, 400, "/list"},
		"refuses/name":    {`{"list":"identities","name":" "}`, 400, "/name"},
		"refuses/filter":  {`{"list":"identities","name":"a","filters":{"pod":"x"}}`, 400, "/filters"},
		"refuses/columns": {`{"list":"identities","name":"a","columns":[""]}`, 400, "/columns"},
		"refuses/sharing": {`{"list":"identities","name":"a","shared":true}`, 403, "/shared"},
	} {
		answer := w.Do(t, http.MethodPost, "/views", w.Tokens[pki.RoleRequester], strings.NewReader(tt.body), nil)
		if answer.Status != tt.status || !strings.Contains(string(answer.Body), tt.field) {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
}

package storetest

import (
	"fmt"
	"testing"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func testViews(t *testing.T, s *store.Store) {
	made := func(owner, name string, shared bool) *pki.SavedView {
		view := &pki.SavedView{
			ID: ID[pki.ViewID](t), Owner: owner, List: "identities", Name: name, Filters: map[string]string{"status": "lapsing"},
			Columns: []string{"namespace"}, Shared: shared, CreatedAt: Now(), UpdatedAt: Now(),
		}
		check(t, s.CreateView(t.Context(), view, Event(audit.ViewCreate)))
		return view
	}
	mine, shared, others := made("user/ann", "b", false), made("user/bob", "a", true), made("user/bob", "c", false)
	all, err := s.Views(t.Context(), "user/ann")
	check(t, err)
	equal(t, "views", []pki.SavedView{*shared, *mine}, all)

	again := *mine
	again.ID = ID[pki.ViewID](t)
	refused(t, s.CreateView(t.Context(), &again, Event(audit.ViewCreate)), fault.Conflict)
	stolen := *others
	stolen.Owner = "user/ann"
	refused(t, s.UpdateView(t.Context(), &stolen, Event(audit.ViewUpdate)), fault.NotFound)
	refused(t, s.DeleteView(t.Context(), others.ID, "user/ann", Event(audit.ViewDelete)), fault.NotFound)
	renamed := *others
	renamed.Name = "a"
	refused(t, s.UpdateView(t.Context(), &renamed, Event(audit.ViewUpdate)), fault.Conflict)

	mine.Name, mine.Filters, mine.Columns, mine.Shared = "d", nil, nil, true
	check(t, s.UpdateView(t.Context(), mine, Event(audit.ViewUpdate)))
	check(t, s.DeleteView(t.Context(), shared.ID, "", Event(audit.ViewDelete)))
	all, err = s.Views(t.Context(), "user/bob")
	check(t, err)
	equal(t, "views of the other", []pki.SavedView{*others, *mine}, all)
	equal(t, "events", 5, countEvents(t, s, audit.ViewCreate)+countEvents(t, s, audit.ViewUpdate)+countEvents(t, s, audit.ViewDelete))

	for i := range 98 {
		made("user/ann", fmt.Sprint(i), false)
	}
	made("user/ann", "last", false)
	again.Name = "one too many"
	refused(t, s.CreateView(t.Context(), &again, Event(audit.ViewCreate)), fault.Conflict)
}

package browser

import "net/url"

// Page is one page of the console.
type Page struct {
	Name   string // of its pictures
	Path   string
	Public bool // nobody need have signed in
	Main   bool // pictures of it are taken in Japanese as well
	Reader bool // an auditor looks at it, who may change nothing
	Send   bool // its form is sent as it is, without what it requires: what is wrong comes back beside the fields
}

// Look opens a page of the list.
func (tab *Tab) Look(page Page) {
	tab.t.Helper()
	tab.Open(page.Path)
	if !page.Send {
		return
	}
	Evaluate[bool](tab, `(document.querySelector('main form:not([role=search])').noValidate = true)`)
	tab.Click("main form:not([role=search]) button.btn-primary")
	tab.Wait("what is wrong", "document.querySelector('main .invalid-feedback, main .alert-danger')")
	tab.Settle()
}

// Pages lists every page, in the order of the navigation. A page that is added to the console is added here: a test
// follows the navigation and every link of these pages.
func (e *Estate) Pages() []Page {
	return []Page{
		{Name: "start", Path: "/start", Public: true, Main: true},
		{Name: "sign-in", Path: "/sign-in", Public: true, Main: true},
		{Name: "dashboard", Path: "/", Main: true},
		{Name: "identities", Path: "/inventory", Main: true},
		{Name: "identities-found", Path: "/inventory?q=batch"},
		{Name: "identities-saved", Path: "/inventory?namespace=batch", Main: true},
		{Name: "identities-none", Path: "/inventory?q=nobody"},
		{Name: "identity", Path: "/inventory/identity?name=" + url.QueryEscape(e.Identity), Main: true},
		{Name: "certificates", Path: "/inventory/certificates", Main: true},
		{Name: "certificates-found", Path: "/inventory/certificates?q=report&status=valid"},
		{Name: "certificates-revoke", Path: "/inventory/certificates/revoke?serial=" + e.Serial},
		{Name: "certificate-revoke-several", Path: "/inventory/certificates/revoke?serial=" + e.Serial + "&serial=" + e.Revoked},
		{Name: "certificate-hold", Path: "/inventory/certificates/" + e.Serial + "/hold"},
		{Name: "certificate", Path: "/inventory/certificates/" + e.Serial, Main: true},
		{Name: "certificate-revoked", Path: "/inventory/certificates/" + e.Revoked},
		{Name: "certificate-revoke", Path: "/inventory/certificates/" + e.Serial + "/revoke"},
		{Name: "templates", Path: "/policies/templates", Main: true},
		{Name: "profiles", Path: "/policies/profiles", Main: true},
		{Name: "profile", Path: "/policies/profiles/payments"},
		{Name: "profile-new", Path: "/policies/profiles/new?template=private-mtls", Main: true},
		{Name: "profile-new-wrong", Path: "/policies/profiles/new?template=private-mtls", Send: true},
		{Name: "profile-edit", Path: "/policies/profiles/web/edit"},
		{Name: "profile-clone", Path: "/policies/profiles/web/clone"},
		{Name: "profile-delete", Path: "/policies/profiles/retired/delete"},
		{Name: "credentials", Path: "/policies/credentials"},
		{Name: "credential-new", Path: "/policies/credentials/new"},
		{Name: "credential-new-wrong", Path: "/policies/credentials/new", Send: true},
		{Name: "credential-revoke", Path: "/policies/credentials/" + e.KeyID + "/revoke"},
		{Name: "alerts", Path: "/policies/alerts"},
		{Name: "authorities", Path: "/authorities", Main: true},
		{Name: "authority", Path: "/authorities/issuing"},
		{Name: "authority-new", Path: "/authorities/new"},
		{Name: "authority-new-wrong", Path: "/authorities/new", Send: true},
		{Name: "authority-settings", Path: "/authorities/issuing/settings"},
		{Name: "authority-import-wrong", Path: "/authorities/import", Send: true},
		{Name: "authority-import", Path: "/authorities/import"},
		{Name: "authority-suspend", Path: "/authorities/mesh-2/suspend"},
		{Name: "audit", Path: "/audit", Main: true},
		{Name: "audit-found", Path: "/audit?action=certificate.*"},
		{Name: "connectors", Path: "/integrations/connectors", Main: true},
		{Name: "connector", Path: "/integrations/connectors/prod-eu", Main: true},
		{Name: "connector-delete", Path: "/integrations/connectors/prod-eu/delete"},
		{Name: "connector-add", Path: "/integrations/connectors/add", Main: true},
		{Name: "connector-istio", Path: "/integrations/connectors/add/istio", Main: true},
		{Name: "connector-istio-wrong", Path: "/integrations/connectors/add/istio", Send: true},
		{Name: "connector-kubernetes", Path: "/integrations/connectors/add/kubernetes"},
		{Name: "connector-server", Path: "/integrations/connectors/add/server"},
		{Name: "connector-rest", Path: "/integrations/connectors/add/rest"},
		{Name: "users", Path: "/settings/users", Main: true},
		{Name: "user-new", Path: "/settings/users/new"},
		{Name: "user-new-wrong", Path: "/settings/users/new", Send: true},
		{Name: "user-delete", Path: "/settings/users/" + Auditor + "/delete"},
		{Name: "user", Path: "/settings/users/admin"},
		{Name: "tokens", Path: "/settings/tokens"},
		{Name: "token-new", Path: "/settings/tokens/new"},
		{Name: "token-new-wrong", Path: "/settings/tokens/new", Send: true},
		{Name: "sessions", Path: "/settings/sessions"},
		{Name: "account", Path: "/settings/account", Main: true},
		{Name: "account-wrong", Path: "/settings/account", Send: true},
		{Name: "nowhere", Path: "/nowhere", Main: true},
		{Name: "forbidden", Path: "/authorities/new", Main: true, Reader: true},
		{Name: "authority-reader", Path: "/authorities/issuing", Reader: true},
	}
}

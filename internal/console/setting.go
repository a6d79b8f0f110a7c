package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

func (c *Console) settingRoutes() []route {
	return []route{
		{"GET /settings/users", auth.ReadAccess, c.users},
		{"GET /settings/users/new", auth.Administer, c.newUser},
		{"POST /settings/users/new", auth.Administer, c.createUser},
		{"GET /settings/users/{user}", auth.Administer, c.editUser},
		{"POST /settings/users/{user}", auth.Administer, c.updateUser},
		{"POST /settings/users/{user}/unlock", auth.Administer, c.unlockUser},
		{"GET /settings/users/{user}/delete", auth.Administer, c.deleteUserForm},
		{"POST /settings/users/{user}/delete", auth.Administer, c.deleteUser},
		{"GET /settings/tokens", auth.ReadAccess, c.tokens},
		{"GET /settings/tokens/new", auth.Administer, c.newToken},
		{"POST /settings/tokens/new", auth.Administer, c.createToken},
		{"POST /settings/tokens/{token}/revoke", auth.Administer, c.revokeToken},
		{"GET /settings/sessions", auth.ReadAccess, c.sessions},
		{"POST /settings/sessions/{session}/end", auth.Self, c.endSession},
		{"GET /settings/account", auth.Self, c.account},
		{"POST /settings/account", auth.Self, c.changePassword},
	}
}

// userRow is a user in a list.
type userRow struct {
	Name, Path, Display, Email string
	Role, Sees                 string
	State, StateText, Source   string
	Locked, Factor             bool
	SignedIn                   stamp
}

// usersView is the list of users.
type usersView struct {
	Users     []userRow
	MayChange bool
}

func (v *visit) userRow(u *apiv1.User) userRow {
	return userRow{
		Name: u.Name, Path: "/settings/users/" + url.PathEscape(u.Name), Display: u.DisplayName, Email: u.Email, Role: v.text("common.role." + u.Role),
		Sees: strings.Join(u.Sees, ", "), State: u.State, StateText: v.text("common.state." + u.State), Source: v.text("setting.source." + u.Source),
		Locked: !u.LockedUntil.IsZero(), Factor: u.SecondFactor, SignedIn: v.stamp(u.LastSignInAt),
	}
}

func (c *Console) users(v *visit) error {
	list, err := v.api.Users(v.ctx())
	if err != nil {
		return err
	}
	view := usersView{MayChange: v.may(auth.Administer)}
	for i := range list.Items {
		view.Users = append(view.Users, v.userRow(&list.Items[i]))
	}
	return v.render("users", view)
}

// userFormView is the form of a new or changed user.
type userFormView struct {
	Form    *form
	Name    string // of the user that is changed, "" for a new one
	Action  string
	Fields  []field
	Locked  bool
	Unlock  string
	Reset   string // address of the page that takes the second factor away, "" without one
	Delete  string
	Version string
}

func (c *Console) newUser(v *visit) error {
	return v.showUserForm(v.newForm(url.Values{"/role": {"operator"}}), nil)
}

func (v *visit) showUserForm(f *form, old *apiv1.User) error {
	view := userFormView{Form: f, Action: "/settings/users/new"}
	if old == nil {
		name := f.field("text", "/name", "setting.user")
		name.Mono, name.Required = true, true
		view.Fields = append(view.Fields, name)
	} else {
		view.Name, view.Action, view.Locked = old.Name, "/settings/users/"+url.PathEscape(old.Name), !old.LockedUntil.IsZero()
		view.Unlock, view.Delete, view.Version = view.Action+"/unlock", view.Action+"/delete", f.value("/version")
		if old.SecondFactor {
			view.Reset = view.Action + "/reset-second-factor"
		}
		view.Fields = append(view.Fields, f.choice("radio", "/state", "common.state", []option{
			{Value: "active", Label: v.text("common.state.active")}, {Value: "suspended", Label: v.text("common.state.suspended")},
		}))
	}
	role := f.choice("radio", "/role", "setting.role", v.roles("admin", "operator", "auditor", "namespace-viewer"))
	sees := f.field("textarea", "/sees", "setting.sees")
	sees.Mono, sees.Rows, sees.Placeholder = true, 3, "spiffe://cluster.local/ns/shop/*"
	view.Fields = append(view.Fields, role, sees, f.field("text", "/displayName", "setting.displayName"), f.field("email", "/email", "setting.email"))
	if old == nil || old.Source == "local" {
		password := f.field("password", "/password", "setting.newPassword")
		password.Complete, password.Required = "new-password", old == nil
		view.Fields = append(view.Fields, password)
	}
	return f.render("userform", view)
}

// roles are choices of a role, each with what it may do.
func (v *visit) roles(names ...string) []option {
	var made []option
	for _, name := range names {
		made = append(made, option{Value: name, Label: v.text("common.role." + name), Help: v.text("setting.role." + name)})
	}
	return made
}

func (c *Console) createUser(v *visit) error {
	f := v.newForm(nil)
	user, err := v.api.CreateUser(v.ctx(), apiv1.CreateUser{
		Name: f.value("/name"), Password: f.values.Get("/password"), Role: f.value("/role"), Sees: someOf(f.list("/sees")),
		DisplayName: f.value("/displayName"), Email: f.value("/email"),
	})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showUserForm(f, nil)
	}
	return v.done("/settings/users", "setting.created", user.Name)
}

// someOf is nil for an empty list: what is not there is not asked for.
func someOf(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	return values
}

func (c *Console) editUser(v *visit) error {
	user, err := v.api.User(v.ctx(), v.r.PathValue("user"))
	if err != nil {
		return err
	}
	return v.showUserForm(v.newForm(url.Values{
		"/role": {user.Role}, "/sees": {strings.Join(user.Sees, "\n")}, "/displayName": {user.DisplayName}, "/email": {user.Email},
		"/state": {user.State}, "/version": {number(user.Version)},
	}), user)
}

func (c *Console) updateUser(v *visit) error {
	user, err := v.api.User(v.ctx(), v.r.PathValue("user"))
	if err != nil {
		return err
	}
	f := v.newForm(nil)
	sees, display, email := f.list("/sees"), f.value("/displayName"), f.value("/email")
	changed, err := v.api.UpdateUser(v.ctx(), user.Name, apiv1.UpdateUser{
		Role: f.value("/role"), Sees: &sees, State: f.value("/state"), DisplayName: &display, Email: &email, Password: f.values.Get("/password"),
	})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showUserForm(f, user)
	}
	return v.done("/settings/users", "setting.updated", changed.Name)
}

func (c *Console) unlockUser(v *visit) error {
	user, err := v.api.UnlockUser(v.ctx(), v.r.PathValue("user"))
	if err != nil {
		return err
	}
	return v.done("/settings/users", "setting.unlocked", user.Name)
}

func (c *Console) deleteUserForm(v *visit) error { return v.showDeleteUser(v.newForm(nil)) }

func (v *visit) showDeleteUser(f *form) error {
	name := v.r.PathValue("user")
	back := "/settings/users/" + url.PathEscape(name)
	return f.render("confirm", confirmView{
		Form: f, Question: v.text("setting.delete.question", name), Means: v.text("setting.delete.means"), Button: v.text("common.delete"),
		Action: back + "/delete", Back: back,
	})
}

func (c *Console) deleteUser(v *visit) error {
	f := v.newForm(nil)
	if err := v.api.DeleteUser(v.ctx(), v.r.PathValue("user")); err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showDeleteUser(f)
	}
	return v.done("/settings/users", "setting.deleted", v.r.PathValue("user"))
}

// tokensView is the list of API tokens.
type tokensView struct {
	Tokens    []tokenRow
	MayChange bool
}

type tokenRow struct {
	ID, Name, Role, Limit, State, StateText string
	Expires, Used                           stamp
	Revoke                                  string // address; "" for one that has ended
}

func (c *Console) tokens(v *visit) error {
	list, err := v.api.Tokens(v.ctx())
	if err != nil {
		return err
	}
	view := tokensView{MayChange: v.may(auth.Administer)}
	for _, t := range list.Items {
		row := tokenRow{
			ID: t.ID, Name: t.Name, Role: v.text("common.role." + t.Role), Limit: strings.Join(append(slices.Clone(t.Sees), t.Profile), " "), State: t.State,
			StateText: v.text("common.state." + t.State), Expires: v.stamp(t.ExpiresAt), Used: v.stamp(t.LastUsedAt),
		}
		if t.State == "active" && view.MayChange {
			row.Revoke = "/settings/tokens/" + url.PathEscape(t.ID) + "/revoke"
		}
		view.Tokens = append(view.Tokens, row)
	}
	return v.render("tokens", view)
}

// tokenFormView is the form of a new token, and, once, its secret.
type tokenFormView struct {
	Form   *form
	Fields []field
	Name   string
	Secret string
}

func (c *Console) newToken(v *visit) error {
	return v.showTokenForm(v.newForm(url.Values{"/role": {"auditor"}, "/expiresAt": {"90d"}}))
}

func (v *visit) showTokenForm(f *form) error {
	profiles, err := v.api.Profiles(v.ctx())
	if err != nil {
		return err
	}
	under := []option{{Value: "", Label: "–"}}
	for _, p := range profiles.Items {
		if p.Method == "rest-api" {
			under = append(under, option{Value: p.Name, Label: p.Name})
		}
	}
	name := f.field("text", "/name", "setting.token")
	name.Mono, name.Required = true, true
	sees := f.field("textarea", "/sees", "setting.sees")
	sees.Mono, sees.Rows = true, 2
	return f.render("tokenform", tokenFormView{Form: f, Fields: []field{
		name, f.choice("radio", "/role", "setting.role", v.roles("admin", "operator", "auditor", "namespace-viewer", "requester")),
		f.choice("select", "/profile", "setting.profile", under), sees,
		f.choice("select", "/expiresAt", "credential.expires", []option{
			{Value: "30d", Label: v.span(30 * 24 * time.Hour)},
			{Value: "90d", Label: v.span(90 * 24 * time.Hour)},
			{Value: "365d", Label: v.span(365 * 24 * time.Hour)},
			{Value: "", Label: v.text("credential.never")},
		}),
	}})
}

func (c *Console) createToken(v *visit) error {
	f := v.newForm(nil)
	asked := apiv1.CreateToken{Name: f.value("/name"), Role: f.value("/role"), Profile: f.value("/profile"), Sees: someOf(f.list("/sees"))}
	if lifetime := lifetimeOf(f.value("/expiresAt")); lifetime > 0 {
		asked.ExpiresAt = v.now.Add(lifetime)
	}
	made, err := v.api.CreateToken(v.ctx(), asked)
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showTokenForm(f)
	}
	return v.render("tokenform", tokenFormView{Form: f, Name: made.Name, Secret: made.Secret})
}

func (c *Console) revokeToken(v *visit) error {
	t, err := v.api.RevokeToken(v.ctx(), v.r.PathValue("token"))
	if err != nil {
		return err
	}
	return v.done("/settings/tokens", "setting.token.revoked", t.Name)
}

// sessionRow is a session in a list.
type sessionRow struct {
	User, Address, Agent, End string
	Since, Used               stamp
	Current                   bool
}

// sessionsView is the list of sessions.
type sessionsView struct {
	Sessions []sessionRow
	MayEnd   bool
}

func (v *visit) sessionRows(all bool) ([]sessionRow, error) {
	list, err := v.api.Sessions(v.ctx(), all)
	if err != nil {
		return nil, err
	}
	var rows []sessionRow
	for _, s := range list.Items {
		rows = append(rows, sessionRow{
			User: s.User, Address: s.Address, Agent: s.UserAgent, Since: v.stamp(s.CreatedAt), Used: v.stamp(s.LastUsedAt), Current: s.Current,
			End: "/settings/sessions/" + url.PathEscape(s.ID) + "/end",
		})
	}
	return rows, nil
}

func (c *Console) sessions(v *visit) error {
	rows, err := v.sessionRows(true)
	if err != nil {
		return err
	}
	return v.render("sessions", sessionsView{Sessions: rows, MayEnd: v.may(auth.Administer)})
}

func (c *Console) endSession(v *visit) error {
	if err := v.api.EndSession(v.ctx(), v.r.PathValue("session")); err != nil {
		return err
	}
	if v.may(auth.ReadAccess) {
		return v.done("/settings/sessions", "setting.session.ended")
	}
	return v.done("/settings/account", "setting.session.ended")
}

// accountView is the visitor's own page.
type accountView struct {
	Form      *form
	Name      string
	Role      string
	Sees      string
	Local     bool // has a password here
	Factor    bool // has a second factor
	Codes     string
	Passwords []field
	Sessions  []sessionRow
}

func (c *Console) account(v *visit) error { return v.showAccount(v.newForm(nil)) }

func (v *visit) showAccount(f *form) error {
	rows, err := v.sessionRows(false)
	if err != nil {
		return err
	}
	known, err := v.api.Whoami(v.ctx())
	if err != nil {
		return err
	}
	old, fresh := f.field("password", "/old", "setting.oldPassword"), f.field("password", "/new", "setting.newPassword")
	old.Complete, fresh.Complete = "current-password", "new-password"
	old.Required, fresh.Required = true, true
	return f.render("account", accountView{
		Form: f, Name: v.who.Name, Role: v.text("common.role." + string(v.who.Role)), Sees: strings.Join(v.who.Sees, ", "), Local: known.Source == "local",
		Factor: known.SecondFactor, Codes: v.text("factor.left", number(int64(known.RecoveryCodes))),
		Passwords: []field{old, fresh}, Sessions: rows,
	})
}

func (c *Console) changePassword(v *visit) error {
	f := v.newForm(nil)
	if err := v.api.ChangeOwnPassword(v.ctx(), apiv1.ChangePassword{Old: f.values.Get("/old"), New: f.values.Get("/new")}); err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showAccount(f)
	}
	return v.done("/settings/account", "setting.password.changed")
}

package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

func (s *Server) profileRoutes() {
	const tag = "profiles"
	register(s, operation{
		id: "list-templates", method: http.MethodGet, path: "/templates", tag: tag, access: auth.Read,
		summary: "List the base templates and what profiles made of them start from",
	}, s.listTemplates)
	register(s, operation{
		id: "list-profiles", method: http.MethodGet, path: "/profiles", tag: tag, access: auth.Read,
		summary: "List certificate profiles",
	}, s.listProfiles)
	register(s, operation{
		id: "create-profile", method: http.MethodPost, path: "/profiles", tag: tag, access: auth.Operate,
		status: http.StatusCreated, summary: "Create a certificate profile",
	}, s.createProfile)
	register(s, operation{
		id: "get-profile", method: http.MethodGet, path: "/profiles/{profile}", tag: tag, access: auth.Read,
		summary: "Show a certificate profile",
	}, s.getProfile)
	register(s, operation{
		id: "update-profile", method: http.MethodPatch, path: "/profiles/{profile}", tag: tag, access: auth.Operate,
		summary: "Change a certificate profile; members that are left out stay",
	}, s.updateProfile)
	register(s, operation{
		id: "delete-profile", method: http.MethodDelete, path: "/profiles/{profile}", tag: tag, access: auth.Operate,
		summary: "Delete a certificate profile that nothing refers to",
	}, s.deleteProfile)
	register(s, operation{
		id: "clone-profile", method: http.MethodPost, path: "/profiles/{profile}/clone", tag: tag, access: auth.Operate,
		status: http.StatusCreated, summary: "Copy a certificate profile under another name",
	}, s.cloneProfile)
	register(s, operation{
		id: "suspend-profile", method: http.MethodPost, path: "/profiles/{profile}/suspend", tag: tag, access: auth.Operate,
		summary: "Suspend a certificate profile: nothing is issued under it",
	}, s.setProfileState(pki.Suspended))
	register(s, operation{
		id: "activate-profile", method: http.MethodPost, path: "/profiles/{profile}/activate", tag: tag, access: auth.Operate,
		summary: "Activate a suspended certificate profile",
	}, s.setProfileState(pki.Active))
}

// ProfilePath is the parameter of operations on one profile.
type ProfilePath struct {
	Profile string `path:"profile" doc:"Name or identifier of the profile." maxLength:"100"`
}

// findProfile finds a profile by name or identifier. Names come first: an administrator chose them.
func findProfile(view *catalog.Snapshot, name string) (*pki.Profile, error) {
	if p, ok := view.ProfileByName(name); ok {
		return p, nil
	}
	if p, ok := view.Profile(pki.ProfileID(name)); ok {
		return p, nil
	}
	return nil, fault.New(fault.NotFound, "there is no profile %.100q", name).WithHint("list them: certloom profile list")
}

// namedProfile is findProfile for a name in a body or query, where an unknown one is the request's fault.
func namedProfile(view *catalog.Snapshot, name, field string) (*pki.Profile, error) {
	p, err := findProfile(view, name)
	if err != nil {
		return nil, fault.New(fault.Malformed, "%s", fault.From(err).Public).WithField(field).WithHint("list them: certloom profile list")
	}
	return p, nil
}

func (s *Server) wireProfile(view *catalog.Snapshot, p *pki.Profile) apiv1.Profile {
	out := apiv1.Profile{
		ID: string(p.ID), Name: p.Name, Template: string(p.Template), IssuingCA: caName(view, p.IssuingCA),
		Method: string(p.Method), State: string(p.State), Rules: wireRules(&p.Rules), Version: p.Version,
		CreatedAt: utc(p.CreatedAt), UpdatedAt: utc(p.UpdatedAt),
	}
	switch {
	case p.Rules.Challenges != nil:
		out.Directory = s.config.BaseURL + "/acme/p/" + p.Name + "/directory"
	case p.Method == pki.MTLSOverACME || p.Method == pki.ACMEClient:
		out.Directory = s.directoryURL()
	}
	return out
}

func (s *Server) directoryURL() string { return s.config.BaseURL + "/acme/directory" }

func (s *Server) listTemplates(_ context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.Template]], error) {
	templates := []pki.Template{pki.PrivateMTLS, pki.PrivateServer, pki.PrivateClient, pki.MeshIntermediate}
	place := func(t pki.Template) string { return strconv.Itoa(slices.Index(templates, t)) }
	return answer(pageOf(in, templates, place, func(t pki.Template) apiv1.Template {
		rules, method := policy.TemplateRules(t)
		return apiv1.Template{Name: string(t), Method: string(method), Rules: wireRules(&rules)}
	})), nil
}

func (s *Server) listProfiles(_ context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.Profile]], error) {
	view := s.config.Catalog.Snapshot()
	name := func(p *pki.Profile) string { return p.Name }
	return answer(pageOf(in, view.Profiles(), name, func(p *pki.Profile) apiv1.Profile { return s.wireProfile(view, p) })), nil
}

func (s *Server) getProfile(_ context.Context, in *ProfilePath) (*output[apiv1.Profile], error) {
	view := s.config.Catalog.Snapshot()
	p, err := findProfile(view, in.Profile)
	if err != nil {
		return nil, err
	}
	return answer(s.wireProfile(view, p)), nil
}

// mergeRules puts the rules that a body has over those that are there already: what is left out stays.
func (f *findings) mergeRules(raw []byte, rules *pki.ProfileRules) pki.ProfileRules {
	merged := struct {
		Rules apiv1.Rules `json:"rules"`
	}{wireRules(rules)}
	if err := json.Unmarshal(raw, &merged); err != nil {
		f.add("/rules", "rules cannot be read") // validation has seen them already
		return pki.ProfileRules{}
	}
	return f.rules(&merged.Rules)
}

func (s *Server) createProfile(ctx context.Context, in *struct{ body[apiv1.CreateProfile] }) (*output[apiv1.Profile], error) {
	var found findings
	view := s.config.Catalog.Snapshot()
	template := pki.Template(in.Body.Template)
	rules, method := policy.TemplateRules(template)
	if in.Body.Method != "" {
		method = pki.EnrollmentMethod(in.Body.Method)
	}
	p := pki.Profile{
		Name: in.Body.Name, Template: template, Method: method, State: pki.State(in.Body.State),
		IssuingCA: found.issuingCA(view, in.Body.IssuingCA), Rules: found.mergeRules(in.RawBody, &rules),
	}
	if err := found.err(); err != nil {
		return nil, s.withChecks(err, &p)
	}
	created, err := s.config.Catalog.CreateProfile(ctx, p, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(s.wireProfile(s.config.Catalog.Snapshot(), created)), nil
}

// withChecks adds what policy finds to what could not be read, except about what could not be read, and about lifetimes
// when one of them could not: they are compared with each other.
func (s *Server) withChecks(err error, p *pki.Profile) error {
	checked := *p
	if checked.State == "" {
		checked.State = pki.Active
	}
	const lifetimes = "/rules/validity/"
	told := map[string]bool{}
	for _, f := range flatten(err, nil) {
		told[f.Field] = true
		told[lifetimes] = told[lifetimes] || strings.HasPrefix(f.Field, lifetimes)
	}
	all := []error{err}
	if more := policy.CheckProfile(&checked); more != nil {
		for _, f := range flatten(more, nil) {
			follows := told[lifetimes] && strings.HasPrefix(f.Field, lifetimes)
			if !told[f.Field] && !follows {
				all = append(all, f)
			}
		}
	}
	return errors.Join(all...)
}

// issuingCA finds the CA that a body names; whether it may issue is for the catalog to say.
func (f *findings) issuingCA(view *catalog.Snapshot, name string) pki.CAID {
	ca, err := namedCA(view, name, "/issuingCa")
	if err != nil {
		*f = append(*f, err)
		return ""
	}
	return ca.ID
}

func (s *Server) updateProfile(ctx context.Context, in *struct {
	ProfilePath
	body[apiv1.UpdateProfile]
},
) (*output[apiv1.Profile], error) {
	var found findings
	view := s.config.Catalog.Snapshot()
	old, err := findProfile(view, in.Profile)
	if err != nil {
		return nil, err
	}
	p := *old
	p.Version = in.Body.Version
	if in.Body.IssuingCA != "" {
		p.IssuingCA = found.issuingCA(view, in.Body.IssuingCA)
	}
	if in.Body.Method != "" {
		p.Method = pki.EnrollmentMethod(in.Body.Method)
	}
	p.Rules = found.mergeRules(in.RawBody, &old.Rules)
	if err := found.err(); err != nil {
		return nil, s.withChecks(err, &p)
	}
	updated, err := s.config.Catalog.UpdateProfile(ctx, p, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(s.wireProfile(s.config.Catalog.Snapshot(), updated)), nil
}

func (s *Server) deleteProfile(ctx context.Context, in *ProfilePath) (*struct{}, error) {
	p, err := findProfile(s.config.Catalog.Snapshot(), in.Profile)
	if err != nil {
		return nil, err
	}
	return nil, s.config.Catalog.DeleteProfile(ctx, p.ID, auth.PrincipalOf(ctx).By())
}

func (s *Server) cloneProfile(ctx context.Context, in *struct {
	ProfilePath
	body[apiv1.CloneProfile]
},
) (*output[apiv1.Profile], error) {
	p, err := findProfile(s.config.Catalog.Snapshot(), in.Profile)
	if err != nil {
		return nil, err
	}
	clone, err := s.config.Catalog.CloneProfile(ctx, p.ID, in.Body.Name, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(s.wireProfile(s.config.Catalog.Snapshot(), clone)), nil
}

func (s *Server) setProfileState(state pki.State) func(context.Context, *ProfilePath) (*output[apiv1.Profile], error) {
	return func(ctx context.Context, in *ProfilePath) (*output[apiv1.Profile], error) {
		p, err := findProfile(s.config.Catalog.Snapshot(), in.Profile)
		if err != nil {
			return nil, err
		}
		changed, err := s.config.Catalog.SetProfileState(ctx, p.ID, state, auth.PrincipalOf(ctx).By())
		if err != nil {
			return nil, err
		}
		return answer(s.wireProfile(s.config.Catalog.Snapshot(), changed)), nil
	}
}

package console

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

const connectorsPath = "/integrations/connectors"

func (c *Console) integrationRoutes() []route {
	return []route{
		{"GET /integrations/connectors", auth.Read, c.connectors},
		{"GET /integrations/connectors/add", auth.Read, c.addConnector},
		{"GET /integrations/connectors/add/istio", auth.Operate, c.istioForm},
		{"POST /integrations/connectors/add/istio", auth.Operate, c.createIstio},
		{"GET /integrations/connectors/add/kubernetes", auth.Read, c.instructions("kubernetes")},
		{"GET /integrations/connectors/add/server", auth.Read, c.instructions("server")},
		{"GET /integrations/connectors/add/rest", auth.Read, c.instructions("rest")},
		{"GET /integrations/connectors/{name}", auth.Read, c.connector},
		{"GET /integrations/connectors/{name}/delete", auth.Operate, c.deleteConnectorForm},
		{"POST /integrations/connectors/{name}/delete", auth.Operate, c.deleteConnector},
	}
}

// connectorsView is the list of connectors.
type connectorsView struct {
	Connectors []connectorRow
	MayCreate  bool
}

type connectorRow struct {
	Name, Path, Mode, Profile, ProfilePath string
	State, StateText                       string
	Workloads                              string
	Newest                                 stamp
}

func (v *visit) connectorRow(c *apiv1.Connector) connectorRow {
	return connectorRow{
		Name: c.Name, Path: connectorsPath + "/" + url.PathEscape(c.Name), Mode: v.text("connector.mode." + c.Mode),
		Profile: c.Profile, ProfilePath: "/policies/profiles/" + url.PathEscape(c.Profile),
		State: c.State, StateText: v.text("connector.state." + c.State), Workloads: number(c.Workloads), Newest: v.stamp(c.LastIssuedAt),
	}
}

func (c *Console) connectors(v *visit) error {
	list, err := v.api.Connectors(v.ctx())
	if err != nil {
		return err
	}
	view := connectorsView{MayCreate: v.may(auth.Operate)}
	for i := range list.Items {
		view.Connectors = append(view.Connectors, v.connectorRow(&list.Items[i]))
	}
	return v.render("connectors", view)
}

// connectorTile is one thing that can be connected.
type connectorTile struct{ Path, Icon, Title, Text string }

func (c *Console) addConnector(v *visit) error {
	var tiles []connectorTile
	for _, kind := range []struct{ id, icon string }{{"istio", "topology-star-3"}, {"kubernetes", "cloud"}, {"server", "server"}, {"rest", "api"}} {
		if kind.id == "istio" && !v.may(auth.Operate) {
			continue
		}
		tiles = append(tiles, connectorTile{
			Path: connectorsPath + "/add/" + kind.id, Icon: kind.icon,
			Title: v.text("connector.tile." + kind.id), Text: v.text("connector.tile." + kind.id + ".text"),
		})
	}
	return v.render("connectoradd", tiles)
}

// istioFormView is the form of a package for Istio.
type istioFormView struct {
	Form         *form
	Fields, More []field
	Profiles     bool // there is one that a mesh can use
}

func (c *Console) istioForm(v *visit) error {
	return v.showIstioForm(v.newForm(url.Values{"/profile": {v.query("profile")}, "/dataplane": {"sidecar"}, "/istioNamespace": {"istio-system"}}))
}

func (v *visit) showIstioForm(f *form) error {
	profiles, err := v.api.Profiles(v.ctx())
	if err != nil {
		return err
	}
	var choices []option
	for _, p := range profiles.Items {
		if p.Template == "private-mtls" && (p.Method == "mtls-over-acme" || p.Method == "agent") {
			choices = append(choices, option{Value: p.Name, Label: p.Name + " · " + v.text("profile.method."+p.Method)})
		}
	}
	profile := f.choice("select", "/profile", "connector.profile", choices)
	name := f.field("text", "/name", "connector.cluster")
	credential := f.field("text", "/credential", "connector.credential")
	name.Placeholder, name.Mono, credential.Mono = "prod-eu", true, true
	credential.Placeholder = "prod-eu"
	profile.Required, name.Required, credential.Required = true, true, true
	mode := f.choice("select", "/mode", "connector.mode", []option{
		{Value: "", Label: v.text("connector.mode.auto")},
		{Value: "cert-manager", Label: v.text("connector.mode.cert-manager")},
		{Value: "agent", Label: v.text("connector.mode.agent")},
	})
	plane := f.choice("select", "/dataplane", "connector.dataplane", []option{
		{Value: "sidecar", Label: v.text("connector.dataplane.sidecar")}, {Value: "ambient", Label: v.text("connector.dataplane.ambient")},
	})
	view := istioFormView{Form: f, Profiles: len(choices) > 0, Fields: []field{profile, name, credential, mode, plane}}
	for _, member := range []string{"istioNamespace", "trustDomain", "issuerName", "email", "agentImage"} {
		more := f.field("text", "/"+member, "connector."+member)
		more.Mono = true
		view.More = append(view.More, more)
	}
	key := f.field("password", "/hmacKey", "connector.hmacKey")
	key.Complete = "off"
	view.More = append(view.More, key)
	return f.render("connectorform", view)
}

// newConnectorView shows a package that was just made. Its secret is shown here and nowhere else.
type newConnectorView struct {
	Name, Path, ZIP string
	Apply           string // the line
	Until           stamp
	Root            bool // the line needs root.pem
	Steps           []connectorStepView
}

type connectorStepView struct{ Title, Commands, Checks string }

func (c *Console) createIstio(v *visit) error {
	f := v.newForm(nil)
	made, err := v.api.CreateConnector(v.ctx(), apiv1.CreateConnector{
		Name: f.value("/name"), Kind: "istio", Mode: f.value("/mode"), Profile: f.value("/profile"), Credential: f.value("/credential"),
		HMACKey: f.value("/hmacKey"), TrustDomain: f.value("/trustDomain"), IstioNamespace: f.value("/istioNamespace"),
		Dataplane: f.value("/dataplane"), IssuerName: f.value("/issuerName"), Email: f.value("/email"), AgentImage: f.value("/agentImage"),
	})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showIstioForm(f)
	}
	// Links lead to this server by whatever name the visitor knows it.
	view := newConnectorView{
		Name: made.Connector.Name, Path: connectorsPath + "/" + url.PathEscape(made.Connector.Name),
		ZIP: strings.TrimPrefix(made.ZIPURL, c.config.BaseURL), Until: v.stamp(made.URLsExpire),
	}
	for _, step := range made.ApplySteps {
		title := step.Title
		if key := "connector.step." + step.ID; v.has(key) {
			title = v.text(key)
		}
		if step.ID == "fetch" && len(step.Commands) > 0 {
			view.Apply, view.Root = step.Commands[0], strings.Contains(step.Commands[0], "root.pem")
		}
		view.Steps = append(view.Steps, connectorStepView{
			Title: title, Commands: strings.Join(step.Commands, "\n"), Checks: strings.Join(step.Checks, "\n"),
		})
	}
	return v.render("connectornew", view)
}

// connectorView is the page of one connector.
type connectorView struct {
	connectorRow
	Refresh  string // address of the part that is asked for again
	Progress []progressView
	Facts    []fact
	Delete   string // address of the form; "" for who may not
}

type progressView struct {
	Title, Text, Icon, State string
	At                       stamp
}

func (c *Console) connector(v *visit) error {
	status, err := v.api.ConnectorStatus(v.ctx(), v.r.PathValue("name"))
	if err != nil {
		return err
	}
	known := &status.Connector
	view := connectorView{connectorRow: v.connectorRow(known)}
	view.Refresh = view.Path + "?part=progress"
	waiting := false
	for _, p := range status.Progress {
		step := progressView{
			Title: v.text("connector.progress." + p.ID), Text: v.text("connector.progress." + p.ID + ".wait"),
			Icon: "circle-dashed", State: "waiting", At: v.stamp(p.At),
		}
		switch {
		case p.Done:
			step.Icon, step.State, step.Text = "circle-check", "done", ""
		case waiting:
			step.Text = ""
		default:
			waiting = true
		}
		view.Progress = append(view.Progress, step)
	}
	for _, f := range []fact{
		{v.text("connector.credential"), known.Credential + " · " + known.KeyID},
		{v.text("connector.trustDomain"), known.TrustDomain},
		{v.text("connector.istioNamespace"), known.IstioNamespace},
		{v.text("connector.dataplane"), v.text("connector.dataplane." + known.Dataplane)},
		{v.text("connector.issuerName"), known.IssuerName},
		{v.text("connector.agentImage"), known.AgentImage},
		{v.text("connector.certificates"), strconv.FormatInt(known.Certificates, 10)},
		{v.text("connector.made"), known.CreatedAt.UTC().Format(time.DateTime) + " UTC " + known.CreatedBy},
	} {
		if f.Value != "" {
			view.Facts = append(view.Facts, f)
		}
	}
	if v.may(auth.Operate) {
		view.Delete = view.Path + "/delete"
	}
	if v.htmx() && v.query("part") == "progress" {
		return v.fragment("connector", "progress", view)
	}
	return v.render("connector", view)
}

func (c *Console) deleteConnectorForm(v *visit) error {
	name := v.r.PathValue("name")
	f := v.newForm(url.Values{"/revoke": {"on"}})
	revoke := f.field("checkbox", "/revoke", "connector.revoke")
	path := connectorsPath + "/" + url.PathEscape(name)
	return v.render("confirm", confirmView{
		Form: f, Question: v.text("connector.delete.question", name), Means: v.text("connector.delete.means"), Reason: &revoke,
		Button: v.text("common.delete"), Action: path + "/delete", Back: path,
	})
}

func (c *Console) deleteConnector(v *visit) error {
	name := v.r.PathValue("name")
	if err := v.api.DeleteConnector(v.ctx(), name, v.value("/revoke") != ""); err != nil {
		return err
	}
	return v.done(connectorsPath, "connector.deleted", name)
}

// instructionsView is how something is connected that needs no package.
type instructionsView struct {
	Title, Text string
	Snippets    []connectorStepView
}

func (c *Console) instructions(kind string) func(*visit) error {
	base := c.config.BaseURL
	commands := map[string][]string{
		"kubernetes": {issuerYAML(base+"/acme/directory", "KEY_ID")},
		"server": {
			"certbot certonly --standalone --server " + base + "/acme/directory \\\n    --eab-kid KEY_ID --eab-hmac-key HMAC_KEY -d www.example.com",
			"lego --server " + base + "/acme/directory --eab --kid KEY_ID --hmac HMAC_KEY \\\n    --email owner@example.com --domains www.example.com --http run",
		},
		"rest": {
			"openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj / \\\n    -addext subjectAltName=DNS:www.example.com -out request.csr",
			"jq -n --rawfile csr request.csr '{profile: \"PROFILE\", csr: $csr}' | \\\n    curl -sSf -H \"Authorization: Bearer $(cat token)\" -H 'Content-Type: application/json' -d @- " + base + apiv1.Prefix + "/certificates",
		},
	}[kind]
	return func(v *visit) error {
		view := instructionsView{Title: v.text("connector.tile." + kind), Text: v.text("connector.how." + kind)}
		for _, text := range commands {
			view.Snippets = append(view.Snippets, connectorStepView{Commands: text})
		}
		return v.render("connectorhow", view)
	}
}

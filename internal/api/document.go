package api

import (
	_ "embed" // sentences
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

// description is the part of the OpenAPI document that no operation brings.
func (s *Server) description() huma.Config {
	jsonFormat := huma.DefaultJSONFormat
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Certloom",
				Version:     s.config.Version,
				Description: "Private CA and certificate lifecycle manager. Every answer that is not a success is a problem document (RFC 9457).",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: apiv1.Prefix}},
			Tags:    tags(),
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					bearerScheme: {Type: "http", Scheme: "bearer", Description: "API token, as certloom token create prints it."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{s.transform},
	}
}

// describe writes the OpenAPI document once; it does not change afterwards.
func (s *Server) describe() error {
	relate(s.operations)
	document := s.api.OpenAPI()
	// The framework's own error, which transform replaces everywhere.
	delete(document.Components.Schemas.Map(), "ErrorModel")
	delete(document.Components.Schemas.Map(), "ErrorDetail")
	for _, path := range document.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete} {
			tidy(op)
			if op == nil {
				continue
			}
			documentTags(op)
			documentRest(op)
			if schema := selectable(document.Components.Schemas, op, "200"); schema != nil {
				op.Metadata[fieldsExtension] = schema
				op.Parameters = append(op.Parameters, fieldsParam())
			}
		}
	}
	if err := describeSchemas(document.Components.Schemas); err != nil {
		return err
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("write OpenAPI document: %w", err)
	}
	s.document, s.operations = raw, nil
	return nil
}

// tidy removes what the framework says of an operation because of how its types are built.
func tidy(op *huma.Operation) {
	if op == nil {
		return
	}
	if op.RequestBody != nil {
		delete(op.RequestBody.Content, "application/octet-stream")
	}
	for _, response := range op.Responses {
		delete(response.Headers, "Content-Type")
	}
}

// tags say what the operations of each are about.
func tags() []*huma.Tag {
	return []*huma.Tag{
		{Name: "access", Description: "Who asks, users with their second factors, and sessions of the console."},
		{Name: "tokens", Description: "API tokens."},
		{Name: "status", Description: "How the server is, and what happens, in figures."},
		{Name: "cas", Description: "Roots and issuing CAs."},
		{Name: "profiles", Description: "Certificate profiles, and the base templates that they are made of."},
		{Name: "policy", Description: "Whether a certificate would be issued, and why not; nothing is."},
		{Name: "credentials", Description: "EAB credentials: what clients register ACME accounts with, and agents enrol with."},
		{Name: "connectors", Description: "Ready packages for clusters, and how far these have come."},
		{Name: "certificates", Description: "The inventory of certificates: asking for one, finding, exporting and revoking them."},
		{Name: "identities", Description: "What certificates are for, each with its newest certificate."},
		{Name: "imported", Description: "Certificates of other CAs."},
		{Name: "views", Description: "Saved views of the inventory."},
		{Name: "alerts", Description: "What people are told of, where messages go, and what became of them."},
		{Name: "audit", Description: "The audit log."},
	}
}

// documentRest says of an operation who may do it, and which headers its answers have.
func documentRest(op *huma.Operation) {
	access, _ := op.Metadata[accessExtension].(auth.Access)
	var roles []string
	for _, role := range auth.Roles() {
		if auth.Allows(role, access) {
			roles = append(roles, string(role))
		}
	}
	switch access {
	case "":
		op.Description = "It needs no token."
	case auth.Self:
		op.Description = "Every role may do it: it concerns the caller only."
	default:
		op.Description = "Roles that may do it: " + strings.Join(roles, ", ") + "."
	}
	text := &huma.Schema{Type: huma.TypeString}
	paged := slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "after" })
	for status, response := range op.Responses {
		if response.Headers == nil {
			response.Headers = make(map[string]*huma.Param)
		}
		response.Headers["X-Request-Id"] = &huma.Param{Description: "Identifies the request in the server's log and in the audit log.", Schema: text}
		if paged && strings.HasPrefix(status, "2") {
			response.Headers["Link"] = &huma.Param{Description: `The address of the next page, with rel="next" (RFC 8288); absent on the last one.`, Schema: text}
		}
	}
}

// sentences are what is said of each schema: the comments of internal/apiv1.
//
//go:embed zz_gen_sentence.json
var sentences []byte

// describeSchemas puts the sentences into the schemas.
func describeSchemas(registry huma.Registry) error {
	var known map[string]string
	if err := json.Unmarshal(sentences, &known); err != nil {
		return fmt.Errorf("read sentences of schemas: %w", err)
	}
	for name, schema := range registry.Map() {
		schema.Description = known[name]
		if item, ok := strings.CutPrefix(name, "Page"); ok && known[name] == "" {
			schema.Description = "A page of a list. Its items: " + known[item]
		}
	}
	return nil
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(s.document)
}

package apiv1

import (
	"context"
	"net/http"
	"time"
)

// View is what somebody has chosen in a list of the inventory, to choose it again.
type View struct {
	ID        string            `json:"id"`
	List      string            `json:"list" enum:"identities,certificates" doc:"identities or certificates."`
	Name      string            `json:"name"`
	Filters   map[string]string `json:"filters" doc:"Parameters of the list's operation; issuedWithin is a length of time, such as 1h."`
	Columns   []string          `json:"columns" nullable:"false" doc:"Of the console; empty: the usual ones."`
	Shared    bool              `json:"shared" doc:"Everybody sees it."`
	System    bool              `json:"system,omitempty" doc:"It comes with the product and cannot be changed."`
	Mine      bool              `json:"mine,omitempty" doc:"It is the caller's, who can change it."`
	CreatedAt time.Time         `json:"createdAt,omitzero"`
	UpdatedAt time.Time         `json:"updatedAt,omitzero"`
}

// SaveView makes or replaces a view.
type SaveView struct {
	List    string            `json:"list" example:"identities" doc:"identities or certificates; it cannot be changed."`
	Name    string            `json:"name" example:"Shop in the east" doc:"1 to 80 characters."`
	Filters map[string]string `json:"filters,omitempty"`
	Columns []string          `json:"columns,omitempty" nullable:"false"`
	Shared  bool              `json:"shared,omitempty" doc:"Only who may change other things, too, shares views."`
}

// Views lists the caller's views, those that are shared and those that come with the product.
func (c *Client) Views(ctx context.Context) (*Page[View], error) {
	return whole[View](ctx, c, "/views", query{})
}

// CreateView saves one.
func (c *Client) CreateView(ctx context.Context, in SaveView) (*View, error) {
	return send[View](ctx, c, http.MethodPost, "/views", in)
}

// UpdateView replaces one of the caller's.
func (c *Client) UpdateView(ctx context.Context, id string, in SaveView) (*View, error) {
	return send[View](ctx, c, http.MethodPut, at("views", id), in)
}

// DeleteView removes one of the caller's.
func (c *Client) DeleteView(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, at("views", id), nil, nil, nil)
}

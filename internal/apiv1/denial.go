package apiv1

import (
	"context"
	"net/http"
	"time"
)

// Denial is an entry of the deny list: an identity or a Pod that gets no certificates.
type Denial struct {
	ID        string    `json:"id"`
	Identity  string    `json:"identity,omitempty" doc:"SPIFFE ID, DNS name or address; a prefix when it ends with *. Absent for a Pod."`
	Cluster   string    `json:"cluster,omitempty" doc:"Of the Pod; absent: each cluster."`
	Namespace string    `json:"namespace,omitempty"`
	Pod       string    `json:"pod,omitempty"`
	Note      string    `json:"note,omitempty" doc:"Why, for people."`
	Until     time.Time `json:"until,omitzero" doc:"Absent: until it is lifted."`
	Ended     bool      `json:"ended" doc:"Its time is over; it denies nothing."`
	CreatedBy string    `json:"createdBy"`
	CreatedAt time.Time `json:"createdAt"`
}

// CreateDenial puts an identity, or a Pod with its namespace, on the deny list. An entry for the same is replaced.
type CreateDenial struct {
	Identity  string    `json:"identity,omitempty" doc:"SPIFFE ID, DNS name or address; a prefix when it ends with *."`
	Cluster   string    `json:"cluster,omitempty" doc:"Of the Pod; absent: each cluster."`
	Namespace string    `json:"namespace,omitempty" doc:"Of the Pod."`
	Pod       string    `json:"pod,omitempty"`
	Note      string    `json:"note,omitempty" doc:"Why, for people."`
	Until     time.Time `json:"until,omitzero" doc:"Absent: until it is lifted."`
}

// Denials lists the deny list, by identity and Pod.
func (c *Client) Denials(ctx context.Context, after string) (*Page[Denial], error) {
	return get[Page[Denial]](ctx, c, "/denials", query{}.text("after", after))
}

// CreateDenial puts an identity or a Pod on the deny list.
func (c *Client) CreateDenial(ctx context.Context, in CreateDenial) (*Denial, error) {
	return send[Denial](ctx, c, http.MethodPost, "/denials", in)
}

// DeleteDenial takes an entry off the deny list.
func (c *Client) DeleteDenial(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, at("denials", id), nil, nil, nil)
}

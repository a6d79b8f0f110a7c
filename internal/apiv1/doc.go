// Package apiv1 owns the wire types of the REST API at /api/v1, and the client of it that the command line uses.
//
// It must never decide anything: what a value means, and whether it is allowed, is for the server. Names of members
// are part of the product's contract; they are added to, never changed. Times are RFC 3339, lifetimes are written like
// "24h" or "90d", records are referred to by name where an administrator gave them one.
package apiv1

// Prefix is where the API lies on a server.
const Prefix = "/api/v1"

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"Pass it as the parameter \"after\" to get the next page; absent on the last one."`
}

// Cursor is where the page says what comes after it.
func (p *Page[T]) Cursor() *string { return &p.Next }

// Following is what comes after the page; "": nothing.
func (p Page[T]) Following() string { return p.Next }

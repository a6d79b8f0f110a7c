package acme

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// ordersPage is how many orders are listed at a time.
const ordersPage = 100

// ordersView is the orders list (RFC 8555 section 7.1.2.1).
type ordersView struct {
	Orders []string `json:"orders"`
}

// listOrders lists the account's orders, newest first.
func (s *Server) listOrders(ctx context.Context, r *request) (*reply, error) {
	if err := ownAccount(r); err != nil {
		return nil, err
	}
	if err := r.postAsGet(); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.http.URL.RawQuery)
	before := query.Get("before")
	if err != nil || before != "" && !pki.ValidID(before) {
		return nil, fault.New(fault.Malformed, "query %.80q is not one that a link of this list has", r.http.URL.RawQuery)
	}
	// One more than a page tells whether there is a next one.
	ids, err := s.Store.AccountOrders(ctx, r.account.ID, pki.OrderID(before), ordersPage+1)
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	answer := &reply{status: http.StatusOK}
	if len(ids) > ordersPage {
		ids = ids[:ordersPage]
		next := r.dir.accountURL(r.account.ID) + "/orders?before=" + string(ids[len(ids)-1])
		answer.links = append(answer.links, link(next, "next"))
	}
	view := ordersView{Orders: make([]string, 0, len(ids))}
	for _, id := range ids {
		view.Orders = append(view.Orders, r.dir.url("/order/", string(id)))
	}
	answer.body = view
	return answer, nil
}

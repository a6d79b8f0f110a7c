package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/fault"
)

// Lists come in pages. A handler sees and says where a page begins in words of its own (a serial, a name); clients see a
// cursor that is sealed and bound to the list and to the parameters that select from it: they cannot make one, and one
// that is passed on with other parameters, which would skip what they select, is refused.

const cursorPurpose = "cursor"

// PageQuery are the parameters of every list. After is the handler's own word when a handler sees it.
type PageQuery struct {
	After string `query:"after" doc:"The member next of the page before, with the same parameters besides." maxLength:"8192"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many at most."`

	opened bool   // After is the handler's
	list   string // what cursors are bound to
	err    error  // what is wrong with the cursor
}

// Resolve opens the cursor. It is part of huma.Resolver, and called more than once where the query is embedded. What is
// wrong with the cursor is told together with what the handler finds.
func (q *PageQuery) Resolve(ctx huma.Context) []error {
	if q.opened {
		return nil
	}
	q.opened = true
	address := ctx.URL()
	selected := address.Query()
	selected.Del("after")
	selected.Del("limit")
	bound := digest(ctx.Operation().OperationID, selected.Encode())
	q.list = hex.EncodeToString(bound[:])
	if q.After == "" {
		return nil
	}
	word, err := heldOf(ctx).server.openCursor(q.list, q.After)
	q.After, q.err = word, err
	return nil
}

func (q *PageQuery) page() *PageQuery { return q }

// pagedInput and pagedOutput are inputs and answers of lists.
type (
	pagedInput  interface{ page() *PageQuery }
	pagedOutput interface{ next() *string }
)

func (o *output[T]) next() *string {
	if page, ok := any(&o.Body).(interface{ Cursor() *string }); ok {
		return page.Cursor()
	}
	return nil
}

// paged calls the handler of an operation, and translates cursors for those of lists.
func paged[I, O any](ctx context.Context, s *Server, in *I, handler func(context.Context, *I) (*O, error)) (*O, error) {
	input, ok := any(in).(pagedInput)
	if !ok {
		return handler(ctx, in)
	}
	q := input.page()
	out, err := handler(ctx, in)
	if err := errors.Join(err, q.err); err != nil {
		return nil, err
	}
	answer, ok := any(out).(pagedOutput)
	if !ok {
		return out, nil
	}
	next := answer.next()
	if next == nil || *next == "" {
		return out, nil
	}
	sealed, err := s.config.Vault.Seal(cursorPurpose, q.list, []byte(*next))
	if err != nil {
		return nil, fmt.Errorf("seal cursor: %w", err)
	}
	*next = base64.RawURLEncoding.EncodeToString(sealed)
	return out, nil
}

func (s *Server) openCursor(list, cursor string) (string, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err == nil {
		var word []byte
		if word, err = s.config.Vault.Unseal(cursorPurpose, list, sealed); err == nil {
			return string(word), nil
		}
	}
	return "", fault.Wrap(err, fault.Malformed, "cursor %.40q is not one that this list has given out for these parameters", cursor).
		WithField("after").WithHint("begin again without the parameter after")
}

// link names the next page in a header as well (RFC 8288), for clients that follow links.
func link(ctx huma.Context, next string) {
	address := ctx.URL()
	query := url.Values{}
	for name, values := range heldOf(ctx).query() {
		query[name] = values
	}
	query.Set("after", next)
	address.RawQuery = query.Encode()
	ctx.SetHeader("Link", fmt.Sprintf(`<%s>; rel="next"`, address.RequestURI()))
}

// cut returns the page that is asked for of records that are sorted by key, and the word for the page after it.
func cut[T any](q *PageQuery, records []T, key func(T) string) (page []T, next string) {
	if q.After != "" {
		begin, _ := slices.BinarySearchFunc(records, q.After, func(record T, after string) int {
			if key(record) <= after {
				return -1
			}
			return 1
		})
		records = records[begin:]
	}
	if len(records) <= q.Limit {
		return records, ""
	}
	return records[:q.Limit], key(records[q.Limit-1])
}

// sortedBy sorts records in place by a key, byte by byte: databases differ in what they take for the order of texts.
func sortedBy[T any](records []T, key func(T) string) []T {
	slices.SortFunc(records, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	return records
}

// placeInTime is a key that sorts by time, and by identifier within a moment.
func placeInTime(at time.Time, id string) string {
	return fmt.Sprintf("%020d\x00%s", at.UnixMicro(), id)
}

// pageOf is cut with the records as they are answered.
func pageOf[R, T any](q *PageQuery, records []R, key func(R) string, wire func(R) T) apiv1.Page[T] {
	part, next := cut(q, records, key)
	page := apiv1.Page[T]{Items: make([]T, 0, len(part)), Next: next}
	for _, record := range part {
		page.Items = append(page.Items, wire(record))
	}
	return page
}

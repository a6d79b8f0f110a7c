package api

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certloom/certloom/internal/telemetry"
)

// streamExtension marks operations whose answers are written piece by piece; they are not held back.
const streamExtension = "x-certloom-stream"

// adapter hands operations a context that keeps to our statuses and holds their answers back: what becomes of an answer
// (its tag, the repetition of it, its compression) depends on all of it.
type adapter struct {
	huma.Adapter
	server *Server
}

// Handle is part of huma.Adapter.
func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	_, streams := op.Metadata[streamExtension]
	a.Adapter.Handle(op, func(ctx huma.Context) {
		held := &requestContext{base: ctx, server: a.server, streams: streams}
		handler(held)
		a.server.send(held)
	})
}

// base keeps the embedded field of requestContext from hiding its method Context.
type base = huma.Context

// requestContext is the context of one request, with its answer until that is sent.
type requestContext struct {
	base
	server  *Server
	streams bool
	status  int
	body    bytes.Buffer
	fields  fields     // that are asked for; nil: all
	asked   url.Values // the query before fields were taken off it; nil: as it is
}

// query is the one that the client has sent.
func (c *requestContext) query() url.Values {
	if c.asked != nil {
		return c.asked
	}
	address := c.URL()
	return address.Query()
}

// Unwrap leads to the adapter's own context.
func (c *requestContext) Unwrap() huma.Context { return c.base }

// SetStatus makes one status of the framework's two for requests that are not as they should be: whether a schema or
// a package below found out is nothing that clients should have to know.
func (c *requestContext) SetStatus(code int) {
	if code == http.StatusUnprocessableEntity {
		code = http.StatusBadRequest
	}
	if c.streams {
		c.base.SetStatus(code)
		return
	}
	c.status = code
}

// Status is part of huma.Context.
func (c *requestContext) Status() int {
	if c.streams {
		return c.base.Status()
	}
	return c.status
}

// BodyWriter is part of huma.Context.
func (c *requestContext) BodyWriter() io.Writer {
	if c.streams {
		return c.base.BodyWriter()
	}
	return &c.body
}

// heldOf finds the request's own context below those that middlewares have put on top of it.
func heldOf(ctx huma.Context) *requestContext {
	for {
		if held, ok := ctx.(*requestContext); ok {
			return held
		}
		wrapped, ok := ctx.(interface{ Unwrap() huma.Context })
		if !ok {
			return &requestContext{base: ctx, streams: true} // not one of ours: nothing is held back
		}
		ctx = wrapped.Unwrap()
	}
}

// send writes an answer that was held back.
func (s *Server) send(c *requestContext) {
	if c.streams || c.status == 0 {
		return
	}
	if c.tag() {
		c.base.SetStatus(http.StatusNotModified)
		return
	}
	body := c.body.Bytes()
	if c.fields != nil && c.status == http.StatusOK {
		selected, err := selectFields(body, c.fields)
		if err != nil {
			s.config.Logger.ErrorContext(c.Context(), "fields not selected", telemetry.KeyError, err)
			c.status, selected = http.StatusInternalServerError, nil
		}
		body = selected
	}
	small, err := s.compressed(c, body)
	switch {
	case err != nil:
		s.config.Logger.WarnContext(c.Context(), "answer not compressed", telemetry.KeyError, err)
	case small != nil:
		c.SetHeader("Content-Encoding", "gzip")
		body = small
	}
	if len(body) > 0 {
		c.SetHeader("Content-Length", strconv.Itoa(len(body)))
	}
	c.base.SetStatus(c.status)
	if _, err := c.base.BodyWriter().Write(body); err != nil {
		s.config.Logger.DebugContext(c.Context(), "answer not sent", telemetry.KeyError, err)
	}
}

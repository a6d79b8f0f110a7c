package console

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// loop is an http.RoundTripper that calls the API in this process, for one visit. The visitor's principal is in the
// context of the visit, which every call has; the API sees the visitor's address and browser.
type loop struct {
	api     http.Handler
	visitor *http.Request
	key     string // of the form that was sent, so that sending it twice makes one thing; questions make none
	creates int
}

// formKey is the form field that makes a form safe to send twice.
const formKey = "_key"

// RoundTrip is part of http.RoundTripper.
func (l *loop) RoundTrip(request *http.Request) (*http.Response, error) {
	call := request.Clone(request.Context())
	call.RemoteAddr = l.visitor.RemoteAddr
	call.RequestURI = call.URL.RequestURI()
	call.Header.Set("User-Agent", l.visitor.UserAgent())
	if call.Body == nil {
		call.Body = http.NoBody
	}
	if call.Method == http.MethodPost && l.key != "" && !strings.HasPrefix(call.URL.Path, apiv1.Prefix+"/policy/") {
		l.creates++
		call.Header.Set("Idempotency-Key", l.key+"-"+strconv.Itoa(l.creates))
	}
	answer := &answer{header: make(http.Header)}
	l.api.ServeHTTP(answer, call)
	return answer.response(request), nil
}

// answer collects what the API writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is part of http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader is part of http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write is part of http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p) //nolint:wrapcheck // it cannot fail
}

func (a *answer) response(request *http.Request) *http.Response {
	a.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Request: request,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()),
	}
}

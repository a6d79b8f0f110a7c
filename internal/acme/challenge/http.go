package challenge

import (
	"bufio"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Bounds on http-01.
const (
	maxRedirects = 10
	maxTarget    = 2000     // bytes of a redirect's path and query
	maxBody      = 1024     // a key authorization has some 90 bytes; the rest is room for blank lines
	maxAnswer    = 64 << 10 // bytes on the wire, of header and body together
	maxInterim   = 5        // 1xx answers
	maxShown     = 64       // bytes of an answer in a sentence
)

// hop is one request of http-01: the first, or one that a redirect asked for.
type hop struct {
	url        *url.URL
	identifier pki.Identifier
	port       uint16
	redirected bool
}

// validateHTTP fetches the key authorization (RFC 8555 section 8.3).
func (v *Validator) validateHTTP(ctx context.Context, r Request) error {
	next, err := firstHop(r, v.httpPort)
	if err != nil {
		return err
	}
	var seen []string
	for {
		seen = append(seen, next.url.String())
		location, err := v.fetch(ctx, r, next)
		if err != nil || location == "" {
			return err
		}
		if len(seen) > maxRedirects {
			return fault.New(fault.IncorrectResponse, "%s: more than %d redirects", seen[0], maxRedirects)
		}
		if next, err = v.follow(next, location, seen); err != nil {
			return err
		}
	}
}

func firstHop(r Request, port uint16) (hop, error) {
	// Tokens are ours and base64url; whatever else would come here must not leave the path.
	if strings.ContainsFunc(r.Token, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("/?#%.\\", c) }) {
		return hop{}, fault.New(fault.Unauthorized, "token %.60q is not base64url", r.Token)
	}
	host := r.Identifier.Value
	if r.Identifier.Type == pki.IP && strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	first := &url.URL{Scheme: "http", Host: host, Path: "/.well-known/acme-challenge/" + r.Token}
	return hop{url: first, identifier: r.Identifier, port: port}, nil
}

// fetch makes one request. It returns nil and no location if the body is the key authorization.
func (v *Validator) fetch(ctx context.Context, r Request, h hop) (location string, err error) {
	to, err := v.target(ctx, r, h.identifier, h.port)
	if err != nil {
		return "", err
	}
	conn, at, err := v.connect(ctx, to)
	if err != nil {
		return "", err
	}
	defer bind(ctx, conn)()
	if h.url.Scheme == "https" {
		if conn, err = encrypt(ctx, conn, at, h); err != nil {
			return "", err
		}
	}
	response, err := exchange(ctx, conn, h)
	if err != nil {
		return "", broken(err, at, h)
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
		return "", compareBody(r, response.Body, at, h)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		location = response.Header.Get("Location")
		if location == "" {
			return "", fault.New(fault.IncorrectResponse, "%s at %s answered with status %d and no Location", shownURL(h.url), at, response.StatusCode)
		}
		return location, nil
	default:
		return "", fault.New(fault.IncorrectResponse, "%s at %s answered with status %d, not 200", shownURL(h.url), at, response.StatusCode)
	}
}

// encrypt speaks TLS to the host of a redirect. Its certificate is not verified: the client is here to get one, and
// http-01 proves no more than control of port 80 (CA/Browser Forum BR 3.2.2.4.19).
func encrypt(ctx context.Context, conn net.Conn, at netip.AddrPort, h hop) (net.Conn, error) {
	secured := tls.Client(conn, &tls.Config{
		ServerName:         h.identifier.Value,
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // see above
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, handshakeError(err, at, h.identifier.Value)
	}
	return secured, nil
}

// exchange sends the request and reads the header of the answer. Nothing of net/http's client is used: it would
// keep connections, follow redirects by itself and unpack bodies.
func exchange(ctx context.Context, conn net.Conn, h hop) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url.String(), nil)
	if err != nil {
		return nil, err //nolint:wrapcheck // broken tells what it is
	}
	// The port is left out also when it is not the default one: servers compare the header with the name alone.
	request.Host = h.url.Hostname()
	if strings.Contains(request.Host, ":") {
		request.Host = "[" + request.Host + "]"
	}
	request.Header.Set("User-Agent", "certloom (ACME http-01 validation)")
	request.Header.Set("Accept", "*/*")
	request.Close = true
	if err := request.Write(conn); err != nil {
		return nil, err //nolint:wrapcheck // broken tells what it is
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	if _, err := reader.Peek(1); err != nil {
		return nil, err //nolint:wrapcheck // broken tells nothing at all, which is io.EOF, from an answer that was cut
	}
	for range maxInterim {
		response, err := http.ReadResponse(reader, request)
		if err != nil {
			return nil, err //nolint:wrapcheck // broken tells what it is
		}
		if response.StatusCode >= http.StatusOK {
			return response, nil
		}
		_ = response.Body.Close()
	}
	return nil, errors.New("too many interim answers")
}

// broken makes an error of a request that got no answer in HTTP.
func broken(err error, at netip.AddrPort, h hop) error {
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, net.ErrClosed) {
		return fault.Wrap(err, fault.Connection, "%s at %s: %s", shownURL(h.url), at, reason(err))
	}
	if errors.Is(err, io.EOF) {
		return fault.Wrap(err, fault.Connection, "%s at %s: connection closed without an answer", shownURL(h.url), at)
	}
	return fault.Wrap(err, fault.IncorrectResponse, "%s at %s did not answer in HTTP/1.1 with a whole answer of at most %d bytes", shownURL(h.url), at, maxAnswer)
}

// compareBody checks that the body is the key authorization, but for white space at its end.
func compareBody(r Request, body io.Reader, at netip.AddrPort, h hop) error {
	raw, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil {
		return broken(err, at, h)
	}
	if len(raw) > maxBody {
		return fault.New(fault.IncorrectResponse, "%s at %s answered with more than %d bytes; the key authorization %q is wanted",
			shownURL(h.url), at, maxBody, r.KeyAuthorization)
	}
	text := strings.TrimRight(string(raw), " \t\r\n")
	if subtle.ConstantTimeCompare([]byte(text), []byte(r.KeyAuthorization)) == 1 {
		return nil
	}
	// What a host says to which we were redirected is not shown: a client must not read through us.
	if h.redirected {
		return fault.New(fault.Unauthorized, "%s at %s, where redirects led to, answered with %d bytes that are not the key authorization %q",
			shownURL(h.url), at, len(raw), r.KeyAuthorization)
	}
	return fault.New(fault.Unauthorized, "%s at %s answered with %s, not with the key authorization %q",
		shownURL(h.url), at, shown(text), r.KeyAuthorization)
}

// follow judges where a redirect leads to.
func (v *Validator) follow(from hop, location string, seen []string) (hop, error) {
	next, err := v.redirect(from.url, location)
	if err == nil && slices.Contains(seen, next.url.String()) {
		err = errors.New("it was there before")
	}
	if err != nil {
		return hop{}, fault.New(fault.IncorrectResponse, "%s redirects to %s: %v", shownURL(from.url), shown(location), err)
	}
	return next, nil
}

// redirect reads a Location. The error says why we do not go there, in words of ours.
func (v *Validator) redirect(from *url.URL, location string) (hop, error) {
	if len(location) > 2*maxTarget {
		return hop{}, errors.New("address is too long")
	}
	to, err := from.Parse(location)
	if err != nil {
		return hop{}, errors.New("not a URL")
	}
	to.Fragment, to.RawFragment = "", ""
	port, err := v.redirectPort(to)
	if err != nil {
		return hop{}, err
	}
	if _, err := netip.ParseAddr(to.Hostname()); err == nil {
		return hop{}, errors.New("host is an IP address, not a name")
	}
	name, err := canonicalName(to.Hostname())
	switch {
	case to.User != nil:
		return hop{}, errors.New("it has user information")
	case err != nil:
		return hop{}, errors.New("host is not a DNS name")
	case len(to.RequestURI()) > maxTarget:
		return hop{}, fmt.Errorf("path has more than %d bytes", maxTarget)
	}
	// The canonical name is what is resolved, so it is also what the request names.
	if explicit := to.Port(); explicit != "" {
		to.Host = net.JoinHostPort(name, explicit)
	} else {
		to.Host = name
	}
	return hop{url: to, identifier: pki.Identifier{Type: pki.DNS, Value: name}, port: port, redirected: true}, nil
}

// redirectPort returns the port of a redirect: one of ours, and no other service of a host.
func (v *Validator) redirectPort(to *url.URL) (uint16, error) {
	port := v.httpPort
	switch to.Scheme {
	case "http":
	case "https":
		port = v.tlsPort
	default:
		return 0, errors.New("scheme is not http or https")
	}
	explicit := to.Port()
	if explicit == "" {
		return port, nil
	}
	number, err := strconv.ParseUint(explicit, 10, 16)
	if err != nil || (uint16(number) != v.httpPort && uint16(number) != v.tlsPort) {
		return 0, fmt.Errorf("port is not %d or %d", v.httpPort, v.tlsPort)
	}
	return uint16(number), nil
}

// shownURL is a URL of ours, or one that follow has judged, for a sentence.
func shownURL(u *url.URL) string { return shortened(u.String(), 2*maxShown) }

// shown quotes what came from outside for a sentence: shortened, and with everything escaped that is not printable
// ASCII.
func shown(text string) string {
	if len(text) > maxShown {
		return strconv.QuoteToASCII(text[:maxShown]) + "..."
	}
	return strconv.QuoteToASCII(text)
}

func shortened(text string, limit int) string {
	if len(text) > limit {
		return text[:limit] + "..."
	}
	return text
}

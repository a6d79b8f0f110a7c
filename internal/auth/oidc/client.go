package oidc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxAnswer     = 1 << 20 // bytes: tokens of people in hundreds of groups have some ten thousand
	maxRedirects  = 3
	callTime      = 10 * time.Second
	handshakeTime = 5 * time.Second
)

// NewClient returns an HTTP client for a provider: TLS with the system's roots, or with those that are given, answers
// that are short in time and size, and no redirect away from TLS.
func NewClient(roots *x509.CertPool) *http.Client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:   handshakeTime,
		ResponseHeaderTimeout: callTime,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   2,
		ForceAttemptHTTP2:     true,
	}
	return &http.Client{
		Transport: bounded{transport},
		Timeout:   callTime,
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			switch {
			case len(before) > maxRedirects:
				return errors.New("the provider redirects again and again")
			case next.URL.Scheme != "https":
				return fmt.Errorf("the provider redirects to %s, which is without TLS", next.URL.Redacted())
			default:
				return nil
			}
		},
	}
}

// bounded cuts answers: the libraries that read them do so to the end.
type bounded struct{ next http.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err //nolint:wrapcheck // stands in for it
	}
	answer.Body = &boundedBody{Reader: io.LimitReader(answer.Body, maxAnswer), Closer: answer.Body}
	return answer, nil
}

type boundedBody struct {
	io.Reader
	io.Closer
}

package apiv1

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Server    string       // https://HOST[:PORT], required
	Token     string       // bearer token; empty for Login and Status of an open server
	HTTP      *http.Client // required; it says which CAs are trusted, and should have a timeout
	UserAgent string
}

// Client calls a server's REST API. Its methods return *Problem for what the server refuses, and are safe for
// concurrent use.
type Client struct {
	config ClientConfig
	base   string
}

// maxAnswer bounds answers that are read as a whole: a page of 1,000 certificates has about a megabyte.
const maxAnswer = 64 << 20

// NewClient checks the configuration; it does not connect.
func NewClient(config ClientConfig) (*Client, error) {
	parsed, err := url.Parse(config.Server)
	switch {
	case err != nil || parsed.Host == "":
		return nil, fmt.Errorf("server %.200q is not a URL such as https://certloom.example:8443", config.Server)
	case parsed.Scheme != "https":
		return nil, fmt.Errorf("server %.200q is not https: the token would be readable on the network", config.Server)
	case parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "":
		return nil, fmt.Errorf("server %.200q has more than a host and a port", config.Server)
	case config.HTTP == nil:
		return nil, errors.New("apiv1: HTTP is required")
	case strings.ContainsAny(config.Token, " \r\n\t"):
		return nil, errors.New("token has white space in it")
	}
	return &Client{config: config, base: strings.TrimSuffix(parsed.String(), "/") + Prefix}, nil
}

// call sends one request and reads the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	response, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // the body has been read; there is nothing to lose
	if out == nil {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read answer: %w", err)
	case len(raw) > maxAnswer:
		return fmt.Errorf("answer has more than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("answer of %s is not as it should be; is this another version's server? %w", path, err)
	}
	return nil
}

// send sends one request. The caller closes the body of the response, which is a success.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.config.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	if c.config.UserAgent != "" {
		request.Header.Set("User-Agent", c.config.UserAgent)
	}
	response, err := c.config.HTTP.Do(request)
	if err != nil {
		return nil, Unreachable(c.config.Server, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		defer func() { _ = response.Body.Close() }()
		return nil, problemOf(response)
	}
	return response, nil
}

// Unreachable says that a server cannot be reached, and why, without the address of the one operation that was tried.
func Unreachable(server string, err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	return fmt.Errorf("cannot reach %s: %w", server, err)
}

// problemOf reads an answer that is no success.
func problemOf(response *http.Response) error {
	const most = 1 << 20
	raw, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	var problem Problem
	if kind == ProblemType && json.Unmarshal(raw, &problem) == nil && problem.Detail != "" {
		problem.Status = response.StatusCode
		return &problem
	}
	return &Problem{
		Type: "about:blank", Title: http.StatusText(response.StatusCode), Status: response.StatusCode,
		Detail: fmt.Sprintf("server answered %s without a problem document", response.Status),
		Hint:   "check that --server is the address of a Certloom server, and what is in front of it",
	}
}

// query collects parameters; empty ones are left out.
type query url.Values

func (q query) text(name, value string) query {
	if value != "" {
		q[name] = []string{value}
	}
	return q
}

func (q query) time(name string, value time.Time) query {
	if !value.IsZero() {
		q[name] = []string{value.UTC().Format(time.RFC3339)}
	}
	return q
}

func (q query) number(name string, value int) query {
	if value != 0 {
		q[name] = []string{strconv.Itoa(value)}
	}
	return q
}

// All calls a list method for page after page and hands each item on, until there are no more or each fails.
func All[T any](list func(after string) (*Page[T], error), each func(T) error) error {
	after := ""
	for {
		page, err := list(after)
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := each(item); err != nil {
				return err
			}
		}
		if page.Next == "" || page.Next == after {
			return nil
		}
		after = page.Next
	}
}

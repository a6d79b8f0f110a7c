package browser_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/test/e2e/browser"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// slowest guards against disasters: ten times what we mean pages to take, on a machine that does other things as well.
const (
	meant   = 50 * time.Millisecond
	slowest = 10 * meant
)

// TestSpeed asks for every page many times, with a million certificates in the inventory, and prints how long the answers
// took, connection and encryption included.
func TestSpeed(t *testing.T) {
	const certificates, requests = 1_000_000, 60
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{})
	began := time.Now()
	serial := browser.Large(t.Context(), t, server, certificates)
	t.Logf("%d certificates in %s", certificates, time.Since(began).Round(time.Second))
	client := signedIn(t, server)
	awaitWords(t, server, client)
	workload := url.QueryEscape("spiffe://cluster.local/ns/ns-7/sa/w-1207")
	lines := []string{"     p50      p99  page"}
	for _, path := range []string{
		"/", "/inventory", "/inventory?q=w-1207", "/inventory?q=ns-42", "/inventory?q=nobody", "/inventory?status=lapsing", "/inventory?status=lapsed",
		"/inventory/identity?name=" + workload, "/inventory/certificates", "/inventory/certificates?q=host-20.example.com",
		"/inventory/certificates?q=w-12", "/inventory/certificates?status=revoked", "/inventory/certificates?status=expired",
		"/inventory/certificates?status=valid", "/inventory/certificates/" + serial, "/policies/templates", "/policies/profiles",
		"/policies/profiles/istio", "/policies/credentials", "/authorities", "/authorities/issuing",
		"/audit", "/audit?action=certificate.*", "/audit?outcome=refused",
	} {
		p50, p99, err := measure(t.Context(), client, server.URL+path, requests)
		if err != nil {
			t.Error(err)
			continue
		}
		lines = append(lines, fmt.Sprintf("%8s %8s  %s", p50.Round(100*time.Microsecond), p99.Round(100*time.Microsecond), path))
		if p99 > slowest {
			t.Errorf("%s takes %s; %s is meant, %s is a disaster", path, p99, meant, slowest)
		}
	}
	t.Log("\n" + strings.Join(lines, "\n"))
}

// measure asks for a page, and returns the median and the 99th percentile of how long the answers took.
func measure(ctx context.Context, client *http.Client, page string, times int) (p50, p99 time.Duration, err error) {
	took := make([]time.Duration, times)
	for i := range took {
		began := time.Now()
		if _, err := get(ctx, client, page); err != nil {
			return 0, 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[times/2], took[times*99/100], nil
}

// get returns a page.
func get(ctx context.Context, client *http.Client, page string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK || response.Request.URL.Path == "/sign-in" {
		return "", fmt.Errorf("%s: %s\n%.500s", page, response.Status, body)
	}
	return string(body), nil
}

// awaitWords waits until the server has made the words that identities of before are found by.
func awaitWords(t *testing.T, server *testbed.Certloom, client *http.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := testbed.Poll(ctx, 200*time.Millisecond, func(ctx context.Context) error {
		page, err := get(ctx, client, server.URL+"/inventory?q=w-9999")
		if err == nil && !strings.Contains(page, "/sa/w-9999") {
			err = errors.New("the last identity is not found")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// signedIn returns a client with the administrator's session.
func signedIn(t *testing.T, server *testbed.Certloom) *http.Client {
	t.Helper()
	client := server.HTTPClient(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client.Jar = jar
	form := url.Values{"user": {server.AdminUser}, "password": {server.AdminPassword}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Request.URL.Path != "/" {
		t.Fatalf("sign in: %s at %s", response.Status, response.Request.URL)
	}
	return client
}

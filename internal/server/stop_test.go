package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/server"
)

// TestStopLeavesNothing is not parallel: it looks at all goroutines.
func TestStopLeavesNothing(t *testing.T) {
	dir, listen := t.TempDir(), freeListen(t)
	for range 2 {
		d := startDev(t, dir, listen, 2)
		d.get(t, "/acme/directory")
		d.client.CloseIdleConnections()
		d.stop()
	}
	var left string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if left = goroutines(t); left == "" {
			return
		}
		<-time.After(10 * time.Millisecond) // sockets close in their own time
	}
	t.Errorf("goroutines are left:\n%s", left)
}

// goroutines returns the stacks of our goroutines, without those of the tests.
func goroutines(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
		t.Fatal(err)
	}
	var ours []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, "certloom/internal/") && !strings.Contains(stack, "testing.tRunner") {
			ours = append(ours, stack)
		}
	}
	return strings.Join(ours, "\n\n")
}

// A request that is under way when the server is told to stop is answered, with everything that it needs.
func TestStopAnswersWhatHasBegun(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), freeListen(t), 0)
	base, err := url.Parse(d.connection.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport, ok := d.client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	settings := transport.TLSClientConfig.Clone()
	settings.ServerName = base.Hostname()
	conn, err := tls.Dial("tcp", base.Host, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// The password is wrong: to know that, and to record the refusal, takes the database.
	body := `{"user":"admin","password":"a wrong password"}`
	fmt.Fprintf(conn, "POST /api/v1/login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		base.Host, len(body), body[:10])
	d.get(t, "/acme/directory") // the server has had time to begin with the other one
	var stopped sync.WaitGroup
	stopped.Go(d.stop)
	for deadline := time.Now().Add(10 * time.Second); ; {
		other, err := net.Dial("tcp", base.Host)
		if err != nil {
			break // it has begun to stop
		}
		_ = other.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server does not stop")
		}
	}
	if _, err := io.WriteString(conn, body[10:]); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized || !strings.Contains(string(raw), "user name or password is wrong") {
		t.Errorf("answer: %d %s", answer.StatusCode, raw)
	}
	_ = conn.Close()
	stopped.Wait()
}

// A panic of a handler is answered and logged; half an answer is broken off.
func TestPanicInARequest(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/early", func(http.ResponseWriter, *http.Request) { panic("secret insides") })
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("half of it\n", 1000))
		panic("secret insides")
	})
	mux.HandleFunc("/fine", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	var lines bytes.Buffer // read when the server has ended
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener, mux, slog.New(slog.NewTextHandler(&lines, nil)))(ctx) }()
	fetch := func(path string) (int, string, error) {
		response, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = response.Body.Close() }()
		raw, err := io.ReadAll(response.Body)
		return response.StatusCode, string(raw), err
	}
	if status, body, err := fetch("/early"); err != nil || status != http.StatusInternalServerError || strings.Contains(body, "secret") {
		t.Errorf("panic before the answer: %d %q %v", status, body, err)
	}
	if _, _, err := fetch("/late"); err == nil {
		t.Error("half an answer looks like a whole one")
	}
	if status, body, err := fetch("/fine"); err != nil || status != http.StatusOK || body != "fine" {
		t.Errorf("afterwards: %d %q %v", status, body, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if strings.Count(lines.String(), "panic in a request") != 2 || !strings.Contains(lines.String(), "secret insides") {
		t.Errorf("log:\n%s", lines.String())
	}
}

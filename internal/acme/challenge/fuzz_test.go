package challenge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/pki"
)

// FuzzHTTPAnswer answers http-01 with any bytes: no panic, sentences fit for clients and logs, and nothing accepted
// that does not end with the key authorization.
func FuzzHTTPAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\n" + keyAuthz))
	f.Add([]byte("HTTP/1.0 200 OK\n\n" + keyAuthz + "\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n57\r\n" + keyAuthz + "\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: http://web.localhost/x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 301 Moved\r\nLocation: //a:b@[::1%25eth0]:80/\x80\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		v, err := challenge.New(challenge.Config{Dial: piped(func(conn net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			_, _ = conn.Write(answer)
		})})
		if err != nil {
			t.Fatal(err)
		}
		r := request(challenge.HTTP01, "localhost")
		err = v.Validate(t.Context(), r)
		if err != nil {
			checkSentence(t, err)
		} else if !strings.Contains(string(answer), "200") {
			t.Errorf("accepted %q", answer)
		}
	})
}

// FuzzDNSAnswer answers dns-01 and the question for addresses with any bytes that have the query's number.
func FuzzDNSAnswer(f *testing.F) {
	for _, line := range []string{
		validationName + " TXT " + proof(), validationName + " CNAME a.example.", validationName + " CNAME " + validationName,
		validationName + ` TXT "\000\255\"" ""`, "web.example. A 127.0.0.1", "web.example. AAAA ::ffff:127.0.0.1",
	} {
		record, err := dns.NewRR(line)
		if err != nil {
			f.Fatal(err)
		}
		answer := new(dns.Msg)
		answer.SetQuestion(record.Header().Name, record.Header().Rrtype)
		answer.Response = true
		answer.Answer = []dns.RR{record}
		packed, err := answer.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
		f.Add(packed[:len(packed)-1])
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		v, err := challenge.New(challenge.Config{Resolver: "192.0.2.53", Dial: piped(func(conn net.Conn) {
			query := make([]byte, 4) // length and number
			if _, err := io.ReadFull(conn, query); err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			numbered := append([]byte(nil), answer[:min(len(answer), 1<<16-1)]...)
			copy(numbered, query[2:])
			_, _ = conn.Write(frame(numbered))
		})})
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{challenge.DNS01, challenge.HTTP01} {
			r := request(kind, "web.example")
			r.Networks = nil // so that http-01 ends with the addresses
			err := v.Validate(t.Context(), r)
			if err != nil {
				checkSentence(t, err)
			} else if kind == challenge.HTTP01 || !strings.Contains(string(answer), proof()[:1]) {
				t.Errorf("accepted %q", answer)
			}
		}
	})
}

// FuzzRedirect judges any Location: what is followed has a name, and no port or scheme but ours.
func FuzzRedirect(f *testing.F) {
	for _, location := range []string{
		"http://other.localhost/x", "//a.localhost", "/x?y#z", "https://b.localhost:443/", "http://127.0.0.1/", "http://[::1]/",
		"http://a@b.localhost/", "ftp://x/", "http://other.localhost:80:80/", "\\\\x\\y", "http://localhost%2f/", "?",
	} {
		f.Add(location)
	}
	f.Fuzz(func(t *testing.T, location string) {
		if strings.ContainsAny(location, "\r\n") {
			return // another header
		}
		hops := 0
		v, err := challenge.New(challenge.Config{Resolver: "192.0.2.53", Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			if address == "192.0.2.53:53" {
				return nil, io.EOF
			}
			if network != "tcp" || address != "127.0.0.1:80" && address != "127.0.0.1:443" {
				t.Errorf("connects to %s over %s", address, network)
			}
			if hops++; hops > 1 {
				return nil, io.EOF
			}
			return pipe(func(conn net.Conn) {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				header := http.Header{"Location": {location}}
				_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n")
				_ = header.Write(conn)
				_, _ = io.WriteString(conn, "\r\n")
			}), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := request(challenge.HTTP01, "127.0.0.1")
		r.Identifier.Type = pki.IP
		err = v.Validate(t.Context(), r)
		if err == nil {
			t.Fatal("accepted without an answer")
		}
		checkSentence(t, err)
	})
}

// piped connects every dial to a function.
func piped(serve func(net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return pipe(serve), nil }
}

func pipe(serve func(net.Conn)) net.Conn {
	client, server := net.Pipe()
	go func() {
		defer func() { _ = server.Close() }()
		serve(server)
	}()
	return client
}

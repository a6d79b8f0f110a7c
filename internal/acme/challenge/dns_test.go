package challenge_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
)

const validationName = "_acme-challenge.web.example."

// proof is the TXT record of dns-01 for keyAuthz.
func proof() string {
	sum := sha256.Sum256([]byte(keyAuthz))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestDNSAccepts(t *testing.T) {
	t.Parallel()
	one := proof()
	tests := map[string][]string{
		"one":           {validationName + " TXT " + one},
		"among-others":  {validationName + " TXT other", validationName + " TXT " + one, validationName + ` TXT ""`},
		"split-strings": {validationName + ` TXT "` + one[:1] + `" "` + one[1:20] + `" "" "` + one[20:] + `"`},
		"alias":         {validationName + " CNAME web.acme.example.", "web.acme.example. TXT " + one},
		"ten-aliases":   append(aliases(10), "a10.example. TXT "+one),
		"alias-case":    {validationName + " CNAME WEB.Acme.Example.", "web.acme.example. TXT " + one},
	}
	for name, records := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.zone.records = records
			r := request(challenge.DNS01, "web.example")
			r.Networks = nil // dns-01 connects to the DNS server only
			for _, wildcard := range []bool{false, true} {
				r.Wildcard = wildcard
				if err := l.validator(t).Validate(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// aliases is a chain of n CNAMEs that ends at aN.example.
func aliases(n int) []string {
	records := []string{validationName + " CNAME a1.example."}
	for i := 1; i < n; i++ {
		records = append(records, fmt.Sprintf("a%d.example. CNAME a%d.example.", i, i+1))
	}
	return records
}

// A resolver sends the whole chain in one answer, in any order.
func TestDNSReadsChainInOneAnswer(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.zone.handler = func(w dns.ResponseWriter, query *dns.Msg) bool {
		answer := new(dns.Msg)
		answer.SetReply(query)
		for _, line := range []string{
			"b.example. TXT " + proof(), "unrelated.example. TXT x", "a.example. CNAME b.example.", validationName + " CNAME a.example.",
		} {
			record, err := dns.NewRR(line)
			if err != nil {
				t.Error(err)
			}
			answer.Answer = append(answer.Answer, record)
		}
		_ = w.WriteMsg(answer)
		return true
	}
	if err := l.validator(t).Validate(t.Context(), request(challenge.DNS01, "web.example")); err != nil {
		t.Error(err)
	}
	if len(l.zone.asked) != 1 {
		t.Errorf("asked %v", l.zone.asked)
	}
}

func TestDNSRefuses(t *testing.T) {
	t.Parallel()
	one := proof()
	tests := map[string]struct {
		records []string
		kind    fault.Kind
		says    string
	}{
		"none":             {[]string{validationName + " A 127.0.0.1"}, fault.Unauthorized, "_acme-challenge.web.example has no TXT record; one with \"" + one},
		"other":            {[]string{validationName + " TXT wrong"}, fault.Unauthorized, `has TXT "wrong", not "` + one},
		"several":          {[]string{validationName + " TXT a", validationName + " TXT b", validationName + " TXT c", validationName + " TXT d"}, fault.Unauthorized, `"a", "b", "c" and 1 more`},
		"key-authz-itself": {[]string{validationName + " TXT " + keyAuthz}, fault.Unauthorized, token},
		"padded":           {[]string{validationName + " TXT " + one + "="}, fault.Unauthorized, "not"},
		"other-case":       {[]string{validationName + " TXT " + strings.ToUpper(one)}, fault.Unauthorized, "not"},
		"space-before":     {[]string{validationName + ` TXT " ` + one + `"`}, fault.Unauthorized, "not"},
		"separate-records": {[]string{validationName + " TXT " + one[:20], validationName + " TXT " + one[20:]}, fault.Unauthorized, "not"},
		"at-the-name":      {[]string{"web.example. TXT " + one, validationName + " A 127.0.0.1"}, fault.Unauthorized, "no TXT"},
		"control-bytes":    {[]string{validationName + ` TXT "\027[31m\000\010\255\"\\"`}, fault.Unauthorized, `"\x1b[31m\x00\n\xff\"\\"`},
		"long":             {[]string{validationName + ` TXT "` + strings.Repeat("a", 255) + `" "` + strings.Repeat("b", 255) + `"`}, fault.Unauthorized, `aaa"...`},
		"alias-to-nothing": {[]string{validationName + " CNAME gone.example."}, fault.Unauthorized, "no TXT"},
		"eleven-aliases":   {append(aliases(11), "a11.example. TXT "+one), fault.DNS, "more than 10 CNAMEs"},
		"alias-to-itself":  {[]string{validationName + " CNAME " + validationName}, fault.DNS, "circle"},
		"alias-circle":     {[]string{validationName + " CNAME b.example.", "b.example. CNAME c.example.", "c.example. CNAME b.example."}, fault.DNS, "circle"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.zone.records = test.records
			wantFault(t, l.validator(t).Validate(t.Context(), request(challenge.DNS01, "web.example")), test.kind, test.says)
		})
	}
}

// What a server may say that is no answer.
func TestDNSRefusesAnswers(t *testing.T) {
	t.Parallel()
	reply := func(change func(*dns.Msg)) func(dns.ResponseWriter, *dns.Msg) bool {
		return func(w dns.ResponseWriter, query *dns.Msg) bool {
			answer := new(dns.Msg)
			answer.SetReply(query)
			answer.Answer = []dns.RR{&dns.TXT{Hdr: header(query.Question[0]), Txt: []string{proof()}}}
			change(answer)
			_ = w.WriteMsg(answer)
			return true
		}
	}
	code := func(code int) func(dns.ResponseWriter, *dns.Msg) bool {
		return reply(func(m *dns.Msg) { m.Rcode = code })
	}
	raw := func(change func([]byte) []byte) func(dns.ResponseWriter, *dns.Msg) bool {
		return func(w dns.ResponseWriter, query *dns.Msg) bool {
			answer := new(dns.Msg)
			answer.SetReply(query)
			answer.Answer = []dns.RR{&dns.TXT{Hdr: header(query.Question[0]), Txt: []string{proof()}}}
			packed, err := answer.Pack()
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(change(packed))
			return true
		}
	}
	tests := map[string]struct {
		handler func(dns.ResponseWriter, *dns.Msg) bool
		says    string
	}{
		"nxdomain":        {code(dns.RcodeNameError), "DNS query for TXT of _acme-challenge.web.example was answered with NXDOMAIN"},
		"servfail":        {code(dns.RcodeServerFailure), "SERVFAIL"},
		"refused":         {code(dns.RcodeRefused), "REFUSED"},
		"unknown-code":    {code(12), "code 12"},
		"other-id":        {reply(func(m *dns.Msg) { m.Id++ }), "another question"},
		"no-response-bit": {reply(func(m *dns.Msg) { m.Response = false }), "another question"},
		"other-opcode":    {reply(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), "another question"},
		"other-name":      {reply(func(m *dns.Msg) { m.Question[0].Name = "evil.example." }), "another question"},
		"other-type":      {reply(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }), "another question"},
		"other-class":     {reply(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "another question"},
		"no-question":     {reply(func(m *dns.Msg) { m.Question = nil }), "another question"},
		"two-questions":   {reply(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "another question"},
		"empty":           {raw(func([]byte) []byte { return nil }), "malformed"},
		"header-only":     {raw(func(b []byte) []byte { return b[:12] }), "another question"},
		"cut":             {raw(func(b []byte) []byte { return b[:len(b)-1] }), "malformed"},
		"pointer-loop":    {raw(func(b []byte) []byte { return append(b[:12], 0xc0, 12, 0, 16, 0, 1) }), "malformed"},
		"many-announced":  {raw(func(b []byte) []byte { b[6], b[7] = 0xff, 0xff; return b[:12] }), "another question"},
		"closed":          {func(w dns.ResponseWriter, _ *dns.Msg) bool { _ = w.Close(); return true }, "connection closed"},
		"slow/silent":     {func(dns.ResponseWriter, *dns.Msg) bool { return true }, "no answer in time"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.zone.handler = test.handler
			v, err := challenge.New(challenge.Config{Resolver: l.resolver, Timeout: timeoutFor(name)})
			if err != nil {
				t.Fatal(err)
			}
			wantFault(t, v.Validate(t.Context(), request(challenge.DNS01, "web.example")), fault.DNS, test.says)
		})
	}
}

// A record of another class or name in the answer proves nothing.
func TestDNSIgnoresOtherRecords(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.zone.handler = func(w dns.ResponseWriter, query *dns.Msg) bool {
		answer := new(dns.Msg)
		answer.SetReply(query)
		chaos, other := header(query.Question[0]), header(query.Question[0])
		chaos.Class, other.Name = dns.ClassCHAOS, "_acme-challenge.evil.example."
		answer.Answer = []dns.RR{&dns.TXT{Hdr: chaos, Txt: []string{proof()}}, &dns.TXT{Hdr: other, Txt: []string{proof()}}}
		answer.Extra = []dns.RR{&dns.TXT{Hdr: header(query.Question[0]), Txt: []string{proof()}}}
		answer.Ns = answer.Extra
		_ = w.WriteMsg(answer)
		return true
	}
	wantFault(t, l.validator(t).Validate(t.Context(), request(challenge.DNS01, "web.example")), fault.Unauthorized, "no TXT")
}

// A big answer is read to its end, over TCP.
func TestDNSReadsBigAnswer(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	for i := range 300 {
		l.zone.records = append(l.zone.records, fmt.Sprintf("%s TXT %d-%s", validationName, i, strings.Repeat("x", 150)))
	}
	l.zone.records = append(l.zone.records, validationName+" TXT "+proof())
	if err := l.validator(t).Validate(t.Context(), request(challenge.DNS01, "web.example")); err != nil {
		t.Error(err)
	}
	for _, dialled := range l.dials.list {
		if !strings.HasPrefix(dialled, "tcp ") {
			t.Errorf("asked over %s", dialled)
		}
	}
}

// Servers that serve UDP only are asked there; answers to other questions, late or forged, are read over.
func TestDNSOverUDP(t *testing.T) {
	t.Parallel()
	forge := func(conn net.PacketConn, to net.Addr, answer *dns.Msg) {
		forged := answer.Copy()
		forged.Id++
		forged.Answer[0].(*dns.TXT).Txt = []string{"forged"}
		packed, _ := forged.Pack()
		_, _ = conn.WriteTo(packed, to)
	}
	tests := map[string]struct {
		before func(conn net.PacketConn, to net.Addr, answer *dns.Msg)
		says   string
	}{
		"plain":  {func(net.PacketConn, net.Addr, *dns.Msg) {}, ""},
		"forged": {forge, ""},
		"garbage": {func(conn net.PacketConn, to net.Addr, _ *dns.Msg) {
			_, _ = conn.WriteTo([]byte("garbage"), to)
		}, "malformed"},
		"flood": {func(conn net.PacketConn, to net.Addr, answer *dns.Msg) {
			for range 20 {
				forge(conn, to, answer)
			}
		}, "another question"},
		"truncated": {func(_ net.PacketConn, _ net.Addr, answer *dns.Msg) { answer.Truncated = true }, "truncated"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := challenge.New(challenge.Config{Resolver: serveUDP(t, test.before)})
			if err != nil {
				t.Fatal(err)
			}
			err = v.Validate(t.Context(), request(challenge.DNS01, "web.example"))
			if test.says == "" && err != nil {
				t.Error(err)
			}
			if test.says != "" {
				wantFault(t, err, fault.DNS, test.says)
			}
		})
	}
}

// serveUDP answers with the proof over UDP only.
func serveUDP(t *testing.T, before func(net.PacketConn, net.Addr, *dns.Msg)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		raw := make([]byte, 1000)
		for {
			n, from, err := conn.ReadFrom(raw)
			if err != nil {
				return
			}
			query, answer := new(dns.Msg), new(dns.Msg)
			if err := query.Unpack(raw[:n]); err != nil {
				t.Error(err)
				return
			}
			answer.SetReply(query)
			answer.Answer = []dns.RR{&dns.TXT{Hdr: header(query.Question[0]), Txt: []string{proof()}}}
			before(conn, from, answer)
			packed, _ := answer.Pack()
			_, _ = conn.WriteTo(packed, from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		wg.Wait()
	})
	return conn.LocalAddr().String()
}

// A server that announces more than it sends holds nobody up.
func TestDNSRefusesCutFrames(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{"slow/length": {0xff}, "slow/body": {0xff, 0xff, 0, 1, 2}} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			listener := talk(t, func(conn net.Conn) {
				_, _ = conn.Write(frame)
				_, _ = io.Copy(io.Discard, conn)
			})
			v, err := challenge.New(challenge.Config{Resolver: listener.Addr().String(), Timeout: timeoutFor(name)})
			if err != nil {
				t.Fatal(err)
			}
			wantFault(t, v.Validate(t.Context(), request(challenge.DNS01, "web.example")), fault.DNS, "no answer in time")
		})
	}
}

// Both kinds of addresses are asked for on one connection, whose answers may come in any order; a server that takes one
// query on a connection gets two.
func TestAddressesTogether(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		order       []int // of the answers on a connection
		connections int32 // at least
	}{
		"in-order": {[]int{0, 1}, 1}, "reversed": {[]int{1, 0}, 1}, "one-each": {[]int{0}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthz) })
			var connections atomic.Int32
			server := talk(t, func(conn net.Conn) {
				connections.Add(1)
				var replies [][]byte
				for range 2 {
					query := new(dns.Msg)
					length := make([]byte, 2)
					if _, err := io.ReadFull(conn, length); err != nil {
						break
					}
					raw := make([]byte, binary.BigEndian.Uint16(length))
					if _, err := io.ReadFull(conn, raw); err != nil || query.Unpack(raw) != nil {
						return
					}
					answer := new(dns.Msg)
					if answer.SetReply(query); query.Question[0].Qtype == dns.TypeA {
						answer.Answer = []dns.RR{&dns.A{Hdr: header(query.Question[0]), A: net.IPv4(127, 0, 0, 1)}}
					}
					packed, err := answer.Pack()
					if err != nil {
						t.Error(err)
					}
					if replies = append(replies, frame(packed)); len(test.order) == 1 {
						break
					}
				}
				for _, i := range test.order {
					_, _ = conn.Write(replies[i])
				}
			})
			l.resolver = server.Addr().String()
			if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example")); err != nil {
				t.Error(err)
			}
			if n := connections.Load(); n < test.connections || n > 1 && test.connections == 1 {
				t.Errorf("%d connections, want %d", n, test.connections)
			}
		})
	}
}

func TestAddressesRefuses(t *testing.T) {
	t.Parallel()
	code := func(six, four int) func(dns.ResponseWriter, *dns.Msg) bool {
		return func(w dns.ResponseWriter, query *dns.Msg) bool {
			answer := new(dns.Msg)
			answer.SetReply(query)
			if answer.Rcode = four; query.Question[0].Qtype == dns.TypeAAAA {
				answer.Rcode = six
			}
			_ = w.WriteMsg(answer)
			return true
		}
	}
	tests := map[string]struct {
		handler func(dns.ResponseWriter, *dns.Msg) bool
		says    string
	}{
		"none":        {code(dns.RcodeSuccess, dns.RcodeSuccess), "web.example has neither A nor AAAA records"},
		"nxdomain":    {code(dns.RcodeNameError, dns.RcodeNameError), "DNS query for A of web.example was answered with NXDOMAIN"},
		"six-servers": {code(dns.RcodeServerFailure, dns.RcodeSuccess), "AAAA of web.example was answered with SERVFAIL"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.zone.handler = test.handler
			for _, kind := range []string{challenge.HTTP01, challenge.TLSALPN01} {
				wantFault(t, l.validator(t).Validate(t.Context(), request(kind, "web.example")), fault.DNS, test.says)
			}
		})
	}
}

// Names under localhost are this machine, and DNS is not asked (RFC 6761 section 6.3).
func TestAddressesOfLocalhost(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.ports.http = portOf(t, talk(t, func(conn net.Conn) {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(keyAuthz), keyAuthz)
	}).Addr())
	for _, name := range []string{"localhost", "web.localhost"} {
		if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, name)); err != nil {
			t.Error(err)
		}
	}
	if len(l.zone.asked) > 0 {
		t.Errorf("asked %v", l.zone.asked)
	}
}

// Without a server of our own, the system is asked. The test dials on its behalf.
func TestSystemResolver(t *testing.T) {
	t.Parallel()
	server := serveDNS(t, &zone{records: []string{validationName + " TXT " + proof(), "web.example. A 127.0.0.1"}})
	routes := &systemDials{server: server}
	listener := talk(t, func(conn net.Conn) {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(keyAuthz), keyAuthz)
	})
	v, err := challenge.New(challenge.Config{HTTPPort: portOf(t, listener.Addr()), Dial: routes.dial, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{challenge.DNS01, challenge.HTTP01} {
		if err := v.Validate(t.Context(), request(kind, "web.example")); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// frame puts the length before a message.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

package testbed

import (
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Zone is a DNS server in which every name exists and is this machine: A is 127.0.0.1, TXT is what was put there, and
// everything else is empty.
type Zone struct {
	addr string
	mu   sync.Mutex // guards txt
	txt  map[string][]string
}

// StartZone starts a DNS server on UDP and TCP.
func StartZone(t T) *Zone {
	t.Helper()
	z := &Zone{txt: map[string][]string{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.addr = listener.Addr().String()
	packets, err := net.ListenPacket("udp", z.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{
		{Listener: listener, Handler: dns.HandlerFunc(z.answer)}, {PacketConn: packets, Handler: dns.HandlerFunc(z.answer)},
	} {
		started, ended := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Errorf("stop the DNS server: %v", err)
			}
			<-ended
		})
	}
	return z
}

// Addr is where the server listens.
func (z *Zone) Addr() string { return z.addr }

// Add puts a TXT record there; the name may end in a dot.
func (z *Zone) Add(name, value string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name = dns.CanonicalName(name)
	z.txt[name] = append(z.txt[name], value)
}

// Clear removes all TXT records of the name.
func (z *Zone) Clear(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.txt, dns.CanonicalName(name))
}

func (z *Zone) answer(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	reply.Authoritative, reply.RecursionAvailable = true, true
	for _, q := range query.Question {
		reply.Answer = append(reply.Answer, z.records(q)...)
	}
	_ = w.WriteMsg(reply) // a client that has gone asks again
}

func (z *Zone) records(q dns.Question) []dns.RR {
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	switch q.Qtype {
	case dns.TypeA:
		return []dns.RR{&dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)}}
	case dns.TypeTXT:
		z.mu.Lock()
		defer z.mu.Unlock()
		var found []dns.RR
		for _, value := range z.txt[strings.ToLower(q.Name)] {
			found = append(found, &dns.TXT{Hdr: header, Txt: []string{value}})
		}
		return found
	default:
		return nil
	}
}

package challenge

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/certloom/certloom/internal/fault"
)

const (
	// queryTimeout leaves time for the next server when one does not answer.
	queryTimeout = 3 * time.Second
	// datagram is room for an answer over UDP, of which without EDNS none has more than 512 bytes (RFC 1035 section
	// 2.3.4). EDNS would buy little, and cost an answer from servers that do not know it.
	datagram = 4096
	// strangers is how many datagrams that answer another question are read over.
	strangers = 20
)

// outcome is an answer, or why there is none.
type outcome struct {
	answer *dns.Msg
	err    error
}

// question returns a query, and how sentences call it.
func question(name string, qtype uint16) (query *dns.Msg, what string) {
	query = new(dns.Msg)
	query.SetQuestion(name, qtype)
	return query, fmt.Sprintf("DNS query for %s of %s", dns.TypeToString[qtype], strings.TrimSuffix(name, "."))
}

// ask sends a query to one server after the other until one answers. That the name is not there is an answer.
func (r resolver) ask(ctx context.Context, servers []string, name string, qtype uint16) outcome {
	query, what := question(name, qtype)
	var last outcome
	for _, server := range servers {
		answers, err := r.exchange(ctx, server, []*dns.Msg{query})
		var settled bool
		if last, settled = read(answers[0], err, what); settled || ctx.Err() != nil {
			break
		}
	}
	return last
}

// askTogether is ask for several types of one name: the first server is asked for all of them at once, and the others
// for what it left open.
func (r resolver) askTogether(ctx context.Context, servers []string, name string, qtypes []uint16) []outcome {
	outcomes, queries, whats := make([]outcome, len(qtypes)), make([]*dns.Msg, len(qtypes)), make([]string, len(qtypes))
	for i, qtype := range qtypes {
		queries[i], whats[i] = question(name, qtype)
	}
	answers, err := r.exchange(ctx, servers[0], queries)
	// Some servers take a single query on a connection and close it, which may destroy the answer that is on its way.
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	for i, qtype := range qtypes {
		var settled bool
		outcomes[i], settled = read(answers[i], err, whats[i])
		others := servers[1:]
		if closed && answers[i] == nil {
			others = servers
		}
		if !settled && len(others) > 0 && ctx.Err() == nil {
			outcomes[i] = r.ask(ctx, others, name, qtype)
		}
	}
	return outcomes
}

// read judges an answer. It is not settled when another server may know better.
func read(answer *dns.Msg, err error, what string) (result outcome, settled bool) {
	switch {
	case answer == nil:
		return outcome{err: fault.Wrap(err, fault.DNS, "%s got no answer from the DNS server: %s", what, queryReason(err))}, false
	case answer.Rcode == dns.RcodeSuccess:
		return outcome{answer: answer}, true
	case answer.Rcode == dns.RcodeNameError:
		return outcome{err: fault.New(fault.DNS, "%s was answered with NXDOMAIN: there is no such name", what)}, true
	default:
		return outcome{err: fault.New(fault.DNS, "%s was answered with %s", what, rcode(answer.Rcode))}, false
	}
}

func rcode(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return fmt.Sprintf("code %d", code)
}

// exchange asks one server over TCP, whose answers are hard to forge (RFC 8555 section 11.2), and over UDP only when it
// serves no TCP. It returns one answer for each query, nil for those that have none, and then why.
func (r resolver) exchange(ctx context.Context, server string, queries []*dns.Msg) ([]*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answers, err := r.overTCP(ctx, server, queries)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return answers, err
	}
	for i, query := range queries {
		var failure error
		if answers[i], failure = r.overUDP(ctx, server, query); failure != nil {
			err = failure
		}
	}
	return answers, err
}

// overTCP sends the queries together; their answers may come in any order (RFC 7766 sections 6.2.1.1 and 7).
func (r resolver) overTCP(ctx context.Context, server string, queries []*dns.Msg) ([]*dns.Msg, error) {
	answers := make([]*dns.Msg, len(queries))
	var framed []byte
	for _, query := range queries {
		packed, err := query.Pack()
		if err != nil {
			return answers, fmt.Errorf("pack: %w", err)
		}
		framed = binary.BigEndian.AppendUint16(framed, uint16(len(packed))) // a query has less than 64 KiB
		framed = append(framed, packed...)
	}
	conn, err := r.dial(ctx, "tcp", server)
	if err != nil {
		return answers, fmt.Errorf("dial: %w", err)
	}
	defer bind(ctx, conn)()
	if _, err := conn.Write(framed); err != nil {
		return answers, fmt.Errorf("send: %w", err)
	}
	from := bufio.NewReaderSize(conn, streamBuffer)
	for range queries {
		if err := receive(from, queries, answers); err != nil {
			return answers, err
		}
	}
	return answers, nil
}

// streamBuffer is room for the usual answers.
const streamBuffer = 1024

// receive reads one message of a stream, which must answer a query that has no answer yet.
func receive(from io.Reader, queries, answers []*dns.Msg) error {
	var length [2]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	raw := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(from, raw); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	for i, query := range queries {
		if answers[i] != nil {
			continue
		}
		answer, err := readAnswer(raw, query)
		if errors.Is(err, errStranger) {
			continue
		}
		answers[i] = answer
		return err
	}
	return errStranger
}

func (r resolver) overUDP(ctx context.Context, server string, query *dns.Msg) (*dns.Msg, error) {
	packed, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	conn, err := r.dial(ctx, "udp", server)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	defer bind(ctx, conn)()
	if _, err := conn.Write(packed); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	raw := make([]byte, datagram)
	for range strangers {
		n, err := conn.Read(raw)
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		answer, err := readAnswer(raw[:n], query)
		if errors.Is(err, errStranger) {
			continue // an answer that came late, or that somebody forged
		}
		if err == nil && answer.Truncated {
			return nil, errTruncated
		}
		return answer, err
	}
	return nil, errStranger
}

// What can be wrong with an answer.
var (
	errStranger  = errors.New("answer is to another question")
	errMalformed = errors.New("answer is malformed")
	errTruncated = errors.New("answer is truncated")
)

// readAnswer unpacks an answer and checks that it is one to this query (RFC 5452 section 9.1).
func readAnswer(raw []byte, query *dns.Msg) (*dns.Msg, error) {
	answer := new(dns.Msg)
	if err := answer.Unpack(raw); err != nil {
		return nil, errMalformed
	}
	question := query.Question[0]
	if !answer.Response || answer.Id != query.Id || answer.Opcode != dns.OpcodeQuery || len(answer.Question) != 1 {
		return nil, errStranger
	}
	got := answer.Question[0]
	if got.Qtype != question.Qtype || got.Qclass != question.Qclass || dns.CanonicalName(got.Name) != dns.CanonicalName(question.Name) {
		return nil, errStranger
	}
	return answer, nil
}

// queryReason says why there was no answer.
func queryReason(err error) string {
	for _, known := range []error{errStranger, errMalformed, errTruncated} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "connection closed"
	}
	if errors.Is(err, net.ErrClosed) {
		return "no answer in time"
	}
	return reason(err)
}

// unescape undoes the presentation format in which the library hands out the bytes of a TXT record: \DDD for bytes
// that are not printable, \ before quotes and backslashes (RFC 1035 section 5.1).
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		digits := text[i+1:]
		if len(digits) >= 3 && isDigit(digits[0]) && isDigit(digits[1]) && isDigit(digits[2]) {
			const hundred, ten = 100, 10
			out = append(out, (digits[0]-'0')*hundred+(digits[1]-'0')*ten+(digits[2]-'0'))
			i += 3
			continue
		}
		out = append(out, digits[0])
		i++
	}
	return string(out)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

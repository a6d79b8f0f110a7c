package challenge_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
)

// TestTargetThatHangs: one target gets a share of our connections, however many names lead to it; what is too much is
// told from a proof that failed, and another target does not notice.
func TestTargetThatHangs(t *testing.T) {
	t.Parallel()
	const share = 64
	l := newLab(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthz) })
	l.zone.records = []string{"other.example. 0 IN A 127.0.0.2"}
	answering := fmt.Sprintf("127.0.0.1:%d", l.ports.http)
	accepted, release := make(chan struct{}, share), make(chan struct{})
	hanging := talk(t, func(net.Conn) {
		accepted <- struct{}{}
		<-release
	}).Addr().String()
	l.dials.routes = map[string]string{answering: hanging, fmt.Sprintf("127.0.0.2:%d", l.ports.http): answering}
	v := l.validator(t)
	var group sync.WaitGroup
	for i := range share {
		group.Go(func() {
			_ = v.Validate(t.Context(), request(challenge.HTTP01, fmt.Sprintf("n%d.example", i)))
		})
	}
	for range share {
		<-accepted
	}
	err := v.Validate(t.Context(), request(challenge.HTTP01, "one-more.example"))
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("one more: %v, want Unavailable", err)
	}
	if n := len(l.dials.to(l.ports.http)); n != share {
		t.Errorf("%d connections to the target, want %d", n, share)
	}
	if err := v.Validate(t.Context(), request(challenge.HTTP01, "other.example")); err != nil {
		t.Errorf("another target: %v", err)
	}
	close(release)
	group.Wait()
	if err := v.Validate(t.Context(), request(challenge.HTTP01, "later.example")); fault.Is(err, fault.Unavailable) {
		t.Errorf("afterwards: %v", err)
	}
}

package caservice_test

import (
	"bytes"
	"encoding/pem"
	"testing"

	"github.com/certloom/certloom/internal/agent/caservice"
)

func TestEncodePEM(t *testing.T) {
	t.Parallel()
	for n := range 200 {
		der := bytes.Repeat([]byte{byte(n), 0xff}, n)[:n]
		want := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if got := caservice.EncodePEM(der); got != want {
			t.Fatalf("%d octets: got\n%s\nwant\n%s", n, got, want)
		}
	}
}

func BenchmarkEncodePEM(b *testing.B) {
	b.ReportAllocs()
	der := make([]byte, 640)
	for b.Loop() {
		caservice.EncodePEM(der)
	}
}

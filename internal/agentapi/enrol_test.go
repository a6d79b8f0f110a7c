package agentapi_test

import (
	"encoding/hex"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/certloom/certloom/internal/agentapi"
)

func request() *agentapi.EnrolRequest {
	return &agentapi.EnrolRequest{KeyId: "kid", Nonce: "nonce", Cluster: "east", Csr: []byte{0x30, 0x00}}
}

// The value is the protocol: agents of earlier versions compute it.
func TestEnrolMAC(t *testing.T) {
	t.Parallel()
	const want = "281c4d5ffcb50aa537a5d949f1c36f95c698340d0f62fd5f833377691203547b"
	if got := hex.EncodeToString(agentapi.EnrolMAC([]byte("key"), request())); got != want {
		t.Errorf("MAC is %s, want %s", got, want)
	}
}

// Whatever is moved from one field to the next changes the MAC.
func TestEnrolMACSeparatesFields(t *testing.T) {
	t.Parallel()
	good := string(agentapi.EnrolMAC([]byte("key"), request()))
	for name, change := range map[string]func(*agentapi.EnrolRequest){
		"key-id":  func(r *agentapi.EnrolRequest) { r.KeyId, r.Nonce = "kidn", "once" },
		"nonce":   func(r *agentapi.EnrolRequest) { r.Nonce, r.Cluster = "noncee", "ast" },
		"cluster": func(r *agentapi.EnrolRequest) { r.Cluster, r.Csr = "east\x30", []byte{0x00} },
		"csr":     func(r *agentapi.EnrolRequest) { r.Csr = append(r.Csr, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed, ok := proto.Clone(request()).(*agentapi.EnrolRequest)
			if !ok {
				t.Fatal("clone has another type")
			}
			change(changed)
			if string(agentapi.EnrolMAC([]byte("key"), changed)) == good {
				t.Error("same MAC for another request")
			}
		})
	}
	if string(agentapi.EnrolMAC([]byte("other"), request())) == good {
		t.Error("same MAC with another key")
	}
}

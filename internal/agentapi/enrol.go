package agentapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// macLabel keeps the MAC apart from every other use of a credential's key, ACME's external account binding among them.
const macLabel = "certloom agent enrolment v1"

// EnrolMAC computes EnrolRequest.mac: HMAC-SHA256 with the EAB credential's key over a label, the key ID, the nonce, the
// cluster and the CSR, each preceded by its length in 4 bytes, so that no two requests have the same input.
func EnrolMAC(key []byte, r *EnrolRequest) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range [][]byte{
		[]byte(macLabel), []byte(r.GetKeyId()), []byte(r.GetNonce()), []byte(r.GetCluster()), r.GetCsr(),
	} {
		_, _ = mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) // a hash never fails
		_, _ = mac.Write(part)
	}
	return mac.Sum(nil)
}

// MaxItems is how many items an IssueRequest may have.
const MaxItems = 256

package pki

import (
	"strings"
	"time"
)

// DenialID names an entry of the deny list.
type DenialID string

// Denial keeps an identity or a Pod from getting certificates, whoever asks for them and how, until it is lifted or its
// time is over. It is about either an identity or a Pod.
type Denial struct {
	ID        DenialID
	Identity  string // SPIFFE ID, DNS name or address; a prefix when it ends with *; "" for a Pod
	Cluster   string // of the Pod; "" for each cluster
	Namespace string
	Pod       string
	Note      string    // why, for people
	Until     time.Time // zero: until it is lifted
	CreatedBy string
	CreatedAt time.Time
}

// Target says whom the denial is about: the identity, or CLUSTER/NAMESPACE/POD.
func (d *Denial) Target() string {
	if d.Identity != "" {
		return d.Identity
	}
	return strings.TrimPrefix(d.Cluster+"/", "/") + d.Namespace + "/" + d.Pod
}

// Ended reports whether its time is over.
func (d *Denial) Ended(now time.Time) bool { return !d.Until.IsZero() && !now.Before(d.Until) }

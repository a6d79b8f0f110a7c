package certmanager

import (
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
)

// What policies look at is as istio-csr has it: the beginning of the name, and the annotation with the identities.
const (
	namePrefix           = "istio-csr-"
	annotationIdentities = "istio.cert-manager.io/identities"
	ownIdentities        = "istio-csr-serving" // of a request without a SPIFFE ID
)

// Labels of our own.
const (
	labelInstance  = "certloom-agent/instance"  // which process made it
	labelPod       = "certloom-agent/pod"       // in which Pod
	labelTemporary = "certloom-agent/temporary" // it is to be deleted
	isTemporary    = "true"
)

// newRequest makes the object, not yet in the cluster.
func (i *Issuer) newRequest(r issuer.Request) (*unstructured.Unstructured, error) {
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, fault.Wrap(err, fault.BadCSR, "CSR cannot be read")
	}
	identities := make([]string, 0, 1)
	for _, uri := range csr.URIs {
		identities = append(identities, uri.String())
	}
	if len(identities) == 0 {
		identities = append(identities, ownIdentities)
	}
	var random [8]byte
	if _, err := io.ReadFull(i.config.Random, random[:]); err != nil {
		return nil, fmt.Errorf("make a name: %w", err)
	}
	to := i.target.get()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": cmGroup + "/v1", "kind": "CertificateRequest",
		"spec": map[string]any{
			"request":   base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR})),
			"isCA":      false,
			"usages":    []any{"client auth", "server auth"},
			"duration":  r.Lifetime.String(),
			"issuerRef": map[string]any{"name": to.Name, "kind": to.Kind, "group": to.Group},
		},
	}}
	object.SetNamespace(i.config.Namespace)
	object.SetGenerateName(namePrefix)
	object.SetName(namePrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random[:])))
	object.SetLabels(i.labels())
	annotations := maps.Clone(i.config.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationIdentities] = strings.Join(identities, ",")
	object.SetAnnotations(annotations)
	return object, nil
}

func (i *Issuer) labels() map[string]string {
	labels := map[string]string{labelInstance: i.instance}
	if !i.config.Preserve {
		labels[labelTemporary] = isTemporary
	}
	if pod := i.config.Pod; pod != "" && len(validation.IsValidLabelValue(pod)) == 0 {
		labels[labelPod] = pod
	}
	return labels
}

const (
	conditionTrue  = "True"
	conditionFalse = "False"
)

// state is a condition of an object.
type state struct{ status, reason, message string }

func (s state) err() error { return fmt.Errorf("%s: %.1000s", s.reason, s.message) }

// condition finds a condition in an object's status.
func condition(object *unstructured.Unstructured, kind string) (state, bool) {
	list, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions") // a list of another type has none
	for _, item := range list {
		fields, ok := item.(map[string]any)
		if !ok || fields["type"] != kind {
			continue
		}
		text := func(field string) string {
			value, _ := fields[field].(string)
			return value
		}
		return state{status: text("status"), reason: text("reason"), message: text("message")}, true
	}
	return state{}, false
}

// result is what became of a request.
type result struct {
	certificate, ca []byte // PEM; of one that was signed
	err             *fault.Error
}

// judge reads what has become of a request: whether anybody has touched it, and whether it is decided.
func judge(object *unstructured.Unstructured) (r result, touched, decided bool) {
	if text := field(object, "certificate"); len(text) > 0 {
		return result{certificate: text, ca: field(object, "ca")}, true, true
	}
	if denied, ok := condition(object, "Denied"); ok && denied.status == conditionTrue {
		return result{err: fault.Wrap(denied.err(), fault.Unauthorized, "the CertificateRequest was denied")}, true, true
	}
	if invalid, ok := condition(object, "InvalidRequest"); ok && invalid.status == conditionTrue {
		return result{err: fault.Wrap(invalid.err(), fault.BadCSR, "the CertificateRequest is invalid")}, true, true
	}
	ready, found := condition(object, "Ready")
	switch {
	case ready.status == conditionFalse && ready.reason == "Denied":
		return result{err: fault.Wrap(ready.err(), fault.Unauthorized, "the CertificateRequest was denied")}, true, true
	case ready.status == conditionFalse && ready.reason == "Failed":
		return result{err: failed(ready)}, true, true
	}
	_, approved := condition(object, "Approved")
	return result{}, found || approved, false
}

// field reads a field of the status that holds bytes, which JSON has in base64.
func field(object *unstructured.Unstructured, name string) []byte {
	text, _, _ := unstructured.NestedString(object.Object, "status", name) // one of another type is none
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return value
}

// acmeError finds the type of an ACME error (RFC 8555 section 6.7) in a message. cert-manager has no other place for it.
func acmeError(message string) string {
	found := regexp.MustCompile(`urn:ietf:params:acme:error:([A-Za-z]+)`).FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	return found[1]
}

// failed says what the condition Failed means. It is final for the request, and cert-manager's word for refusals and for
// trouble alike: an ACME error says which. What does not say counts as trouble, so that the caller comes again.
func failed(ready state) *fault.Error {
	switch acmeError(ready.message) {
	case "":
		return fault.Wrap(ready.err(), fault.Internal, "the CertificateRequest failed")
	case "rateLimited":
		return fault.Wrap(ready.err(), fault.RateLimited, "the issuer's CA is overloaded")
	case "serverInternal", "badNonce", "orderNotReady", "connection", "dns", "tls":
		return fault.Wrap(ready.err(), fault.Unavailable, "the issuer's CA cannot issue now")
	case "accountDoesNotExist", "externalAccountRequired", "userActionRequired":
		return fault.Wrap(ready.err(), fault.Unavailable, "the issuer's CA does not accept the issuer's account")
	default:
		return fault.Wrap(ready.err(), fault.Unauthorized, "the issuer's CA refuses the request")
	}
}

// waiters are those who wait for requests to be decided. The zero value has none.
type waiters struct {
	mu      sync.Mutex // guards waiting; held for a moment only
	waiting map[string]*waiter
}

// waiter is who waits for a request.
type waiter struct {
	result  chan result
	touched bool // somebody works on the request
}

// add begins to wait for a request, which need not exist yet.
func (w *waiters) add(name string) <-chan result {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[string]*waiter{}
	}
	added := &waiter{result: make(chan result, 1)}
	w.waiting[name] = added
	return added.result
}

// touch notes that somebody works on a request.
func (w *waiters) touch(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if waits, ok := w.waiting[name]; ok {
		waits.touched = true
	}
}

func (w *waiters) touched(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits, ok := w.waiting[name]
	return ok && waits.touched
}

func (w *waiters) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, name)
}

func (w *waiters) waits(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.waiting[name]
	return ok
}

// deliver hands a result to who waits for it. The first one counts.
func (w *waiters) deliver(name string, r result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if waits, ok := w.waiting[name]; ok {
		select {
		case waits.result <- r:
		default:
		}
	}
}

// CheckAnnotation returns why something cannot be an annotation of requests.
func CheckAnnotation(name string) error {
	if faults := validation.IsQualifiedName(strings.ToLower(name)); len(faults) > 0 {
		return fmt.Errorf("%q is not the name of an annotation: %s", name, strings.Join(faults, "; "))
	}
	if name == annotationIdentities {
		return errors.New("annotation " + annotationIdentities + " is the agent's own")
	}
	return nil
}

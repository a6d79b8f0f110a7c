package kube

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// component is who the Events are from.
const component = "certloom-agent"

// maxMessage is how much API servers take of an Event's text.
const maxMessage = 1000

// Teller writes Events on Pods, so that whoever runs "kubectl describe pod" reads why it has no certificate. Events
// that repeat are counted, and a Pod that repeats without end is limited to a few each minute (client-go's recorder).
type Teller struct {
	client      kubernetes.Interface
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// NewTeller returns a Teller that keeps what it is told until Run runs.
func NewTeller(client kubernetes.Interface) *Teller {
	broadcaster := record.NewBroadcaster()
	return &Teller{
		client: client, broadcaster: broadcaster,
		recorder: broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component}),
	}
}

// Run writes Events until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	sink := &typedcorev1.EventSinkImpl{Interface: t.client.CoreV1().Events("")}
	writing := t.broadcaster.StartRecordingToSink(sink)
	<-ctx.Done()
	writing.Stop()
	t.broadcaster.Shutdown()
	return nil
}

// Tell notes a warning about a Pod. It does not block: what there is no room for is dropped.
func (t *Teller) Tell(pod Pod, reason, sentence string) {
	t.Warn(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID),
	}, reason, sentence)
}

// Warn notes a warning about an object, as Tell does.
func (t *Teller) Warn(about *corev1.ObjectReference, reason, sentence string) {
	if len(sentence) > maxMessage {
		sentence = strings.ToValidUTF8(sentence[:maxMessage], "")
	}
	t.recorder.Event(about, corev1.EventTypeWarning, reason, sentence)
}

package certmanager_test

import (
	"context"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// api is an API server in memory, as far as the issuer uses one. It keeps the promises that matter: each change has a version,
// and a watch sends, in order, what has changed since the version that it is given.
type api struct {
	mu       sync.Mutex // guards everything below
	version  int
	objects  map[key]*unstructured.Unstructured
	history  []change
	watchers map[*watch.FakeWatcher]filter
	fail     func(verb string, r schema.GroupVersionResource) error // nil when nothing fails
	created  func(*unstructured.Unstructured)                       // called, in a goroutine, with each new request
	verbs    map[string]int
}

type key struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

type change struct {
	version int
	key     key
	event   watch.Event
}

type filter struct {
	resource  schema.GroupVersionResource
	namespace string
	labels    labels.Selector
	name      string // "" for all
}

func newAPI() *api {
	return &api{
		version: 1, objects: map[key]*unstructured.Unstructured{}, watchers: map[*watch.FakeWatcher]filter{}, verbs: map[string]int{},
	}
}

func (f *filter) takes(k key, object *unstructured.Unstructured) bool {
	return k.resource == f.resource && k.namespace == f.namespace && (f.name == "" || f.name == k.name) && f.labels.Matches(labels.Set(object.GetLabels()))
}

func (a *api) enter(verb string, r schema.GroupVersionResource) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.verbs[verb+" "+r.Resource]++
	if a.fail != nil {
		return a.fail(verb, r)
	}
	return nil
}

// put stores an object, new or changed.
func (a *api) put(k key, object *unstructured.Unstructured) *unstructured.Unstructured {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := watch.Modified
	if a.objects[k] == nil {
		kind = watch.Added
	}
	object = object.DeepCopy()
	a.note(kind, k, object)
	a.objects[k] = object
	return object.DeepCopy()
}

func (a *api) remove(k key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	object := a.objects[k]
	if object == nil {
		return false
	}
	delete(a.objects, k)
	a.note(watch.Deleted, k, object)
	return true
}

// note gives a change its version and sends it; a.mu is held.
func (a *api) note(kind watch.EventType, k key, object *unstructured.Unstructured) {
	a.version++
	object.SetResourceVersion(strconv.Itoa(a.version))
	event := watch.Event{Type: kind, Object: object.DeepCopy()}
	a.history = append(a.history, change{a.version, k, event})
	for watcher, f := range a.watchers {
		if watcher.IsStopped() { // by who watched
			delete(a.watchers, watcher)
		} else if f.takes(k, object) {
			watcher.Action(event.Type, event.Object)
		}
	}
}

// names lists the objects of a resource.
func (a *api) names(r schema.GroupVersionResource) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for k := range a.objects {
		if k.resource == r {
			names = append(names, k.name)
		}
	}
	return names
}

func (a *api) count(verb string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.verbs[verb]
}

func (a *api) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// hangUp ends every watch, as a load balancer does.
func (a *api) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for watcher := range a.watchers {
		watcher.Stop()
		delete(a.watchers, watcher)
	}
}

// Resource implements dynamic.Interface.
func (a *api) Resource(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return &client{api: a, resource: r}
}

// client implements what the issuer uses; anything else is a nil pointer's panic.
type client struct {
	dynamic.NamespaceableResourceInterface

	api       *api
	resource  schema.GroupVersionResource
	namespace string
}

func (c *client) Namespace(namespace string) dynamic.ResourceInterface {
	return &client{api: c.api, resource: c.resource, namespace: namespace}
}

func (c *client) key(name string) key { return key{c.resource, c.namespace, name} }

func (c *client) Create(_ context.Context, object *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	if err := c.api.enter("create", c.resource); err != nil {
		return nil, err
	}
	object = object.DeepCopy()
	object.SetCreationTimestamp(metav1.Now())
	stored := c.api.put(c.key(object.GetName()), object)
	c.api.mu.Lock()
	created := c.api.created
	c.api.mu.Unlock()
	if created != nil {
		go created(stored.DeepCopy())
	}
	return stored, nil
}

func (c *client) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	if err := c.api.enter("get", c.resource); err != nil {
		return nil, err
	}
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	if object := c.api.objects[c.key(name)]; object != nil {
		return object.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(c.resource.GroupResource(), name)
}

func (c *client) Delete(_ context.Context, name string, _ metav1.DeleteOptions, _ ...string) error {
	if err := c.api.enter("delete", c.resource); err != nil {
		return err
	}
	if !c.api.remove(c.key(name)) {
		return apierrors.NewNotFound(c.resource.GroupResource(), name)
	}
	return nil
}

func (c *client) filter(o *metav1.ListOptions) (filter, error) {
	selector, err := labels.Parse(o.LabelSelector)
	return filter{c.resource, c.namespace, selector, strings.TrimPrefix(o.FieldSelector, "metadata.name=")}, err
}

func (c *client) List(_ context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	if err := c.api.enter("list", c.resource); err != nil {
		return nil, err
	}
	f, err := c.filter(&o)
	if err != nil {
		return nil, err
	}
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	list := &unstructured.UnstructuredList{}
	for k, object := range c.api.objects {
		if f.takes(k, object) {
			list.Items = append(list.Items, *object.DeepCopy())
		}
	}
	list.SetResourceVersion(strconv.Itoa(c.api.version))
	return list, nil
}

func (c *client) Watch(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if err := c.api.enter("watch", c.resource); err != nil {
		return nil, err
	}
	f, err := c.filter(&o)
	if err != nil {
		return nil, err
	}
	from, err := strconv.Atoi(o.ResourceVersion)
	if err != nil {
		return nil, err
	}
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	watcher := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10000})
	for _, past := range c.api.history {
		if object, ok := past.event.Object.(*unstructured.Unstructured); ok && past.version > from && f.takes(past.key, object) {
			watcher.Action(past.event.Type, past.event.Object)
		}
	}
	c.api.watchers[watcher] = f
	return watcher, nil
}

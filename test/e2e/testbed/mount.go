package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// mount lays the values of a Secret or a ConfigMap out as files, as the kubelet does for a Pod: when the object is there,
// and again each time that it changes, until the test ends. What it returns is closed when the files are there for the
// first time.
func (c *Cluster) mount(t T, dir, namespace, name string, kind func(informers.SharedInformerFactory) cache.SharedIndexInformer) <-chan struct{} {
	t.Helper()
	factory := informers.NewSharedInformerFactoryWithOptions(c.Kube, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}))
	there := make(chan struct{})
	first := sync.OnceFunc(func() { close(there) })
	v := &volume{dir: dir}
	write := func(object any) {
		if err := v.write(valuesOf(object)); err != nil {
			t.Errorf("mount %s/%s: %v", namespace, name, err)
			return
		}
		first()
	}
	_, err := kind(factory).AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: write, UpdateFunc: func(_, object any) { write(object) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
	factory.Start(ctx.Done())
	return there
}

func secretKind(f informers.SharedInformerFactory) cache.SharedIndexInformer {
	return f.Core().V1().Secrets().Informer()
}

func configMapKind(f informers.SharedInformerFactory) cache.SharedIndexInformer {
	return f.Core().V1().ConfigMaps().Informer()
}

func valuesOf(object any) map[string][]byte {
	switch object := object.(type) {
	case *corev1.Secret:
		return object.Data
	case *corev1.ConfigMap:
		values := map[string][]byte{}
		for name, text := range object.Data {
			values[name] = []byte(text)
		}
		return values
	default:
		return nil
	}
}

// volume is a folder whose files change all at once: each is a link through ..data, which is replaced. Programs in a Pod
// watch for just that.
type volume struct {
	dir string
	n   int // of the last generation
}

func (v *volume) write(values map[string][]byte) error {
	v.n++
	generation := fmt.Sprintf("..%d", v.n)
	if err := writeFiles(filepath.Join(v.dir, generation), values); err != nil {
		return err
	}
	link, current := filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")
	if err := os.Symlink(generation, link); err != nil {
		return fmt.Errorf("link the files: %w", err)
	}
	if err := os.Rename(link, current); err != nil {
		return fmt.Errorf("replace the files: %w", err)
	}
	for name := range values {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)); err != nil && !os.IsExist(err) {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	return os.RemoveAll(filepath.Join(v.dir, fmt.Sprintf("..%d", v.n-1)))
}

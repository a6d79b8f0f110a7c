package publish

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/certloom/certloom/internal/agent/issuer"
)

const (
	// crlKey is where pilot-agent and ztunnel look (istio.io/istio/pkg/config/constants).
	crlKey = "ca-crl.pem"
	// maxMap is how much an API server takes as the data of a ConfigMap (k8s.io/api/core/v1, MaxSecretSize).
	maxMap = corev1.MaxSecretSize
	// crlMargin is how long before their end lists are taken away: kubelets need up to two minutes to bring that into Pods.
	crlMargin = 3 * time.Minute
)

// crlContent is what the ConfigMaps with revocation lists hold.
//
// A proxy with a list that has ended refuses every connection, and so it does when one CA of a chain has a list and
// another has none. Lists that cannot be replaced in time are therefore taken out of the ConfigMap: the mesh goes on
// without knowing what was revoked, which lasts as long as a workload's certificate at most, and says so. The ConfigMap
// itself stays, since Pods find it when it is filled again.
type crlContent struct {
	*Publisher

	size atomic.Int64 // of the lists that the CA has sent

	mu   sync.Mutex
	said string // what is wrong now, "" when nothing is
}

// text returns the lists while they count.
func (c *crlContent) text(ctx context.Context) (text, version string) {
	crls, problem := c.now()
	if crls != nil || problem != "" { // lists that nobody has said anything of are no news
		c.say(ctx, problem)
	}
	if crls == nil {
		return "", "none: " + problem
	}
	return crls.PEM, crls.Version
}

// now returns the lists to publish, or why there are none; "" when nothing is wrong with that.
func (c *crlContent) now() (crls *issuer.CRLs, problem string) {
	if c.config.CRLs == nil {
		return nil, ""
	}
	if why := c.config.CRLs.Withheld(); why != "" {
		c.size.Store(0)
		return nil, "the CA has none to give: " + why
	}
	if crls = c.config.CRLs.CRLs(); crls == nil {
		return nil, ""
	}
	c.size.Store(int64(len(crls.PEM)))
	switch end := crls.NextUpdate; {
	case len(crls.PEM) > maxMap:
		return nil, fmt.Sprintf("they have %d bytes and a ConfigMap takes %d", len(crls.PEM), maxMap)
	case !c.config.Now().Add(crlMargin).Before(end):
		return nil, fmt.Sprintf("they end at %s and the CA has sent no newer ones", end.UTC().Format(time.RFC3339))
	}
	return crls, ""
}

// say tells people what is wrong, once.
func (c *crlContent) say(ctx context.Context, problem string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if problem == c.said {
		return
	}
	c.said = problem
	if problem == "" {
		c.config.Logger.InfoContext(ctx, "revocation lists can be published again")
		return
	}
	c.config.Logger.ErrorContext(ctx, "revocation lists are not published", "reason", problem)
	c.tellOwn("RevocationListsNotPublished", "revocation lists are not published: "+problem)
}

// withheld is 1 while something is wrong, for the metrics.
func (c *crlContent) withheld() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said == "" {
		return 0
	}
	return 1
}

func (c *crlContent) labels() map[string]string {
	return map[string]string{configLabel: "true", managedLabel: managedBy}
}

// judge lets lists that we have published stay until shortly before their end, unless they would do harm now.
func (c *crlContent) judge(ctx context.Context, existing *corev1.ConfigMap) (clear bool, again time.Duration) {
	if existing.Labels[managedLabel] != managedBy || len(existing.Data) == 0 {
		return false, 0
	}
	why, again := c.harm(existing.Data[crlKey])
	if why == "" {
		return false, again
	}
	c.config.Logger.InfoContext(ctx, "revocation lists taken away", "configmap", existing.Namespace+"/"+existing.Name, "reason", why)
	if c.withheld() == 0 && (c.config.CRLs == nil || c.config.CRLs.CRLs() == nil) {
		c.say(ctx, "those in the cluster were taken away: "+why)
	}
	return true, 0
}

// harm returns what is bad about lists in the cluster, "" when nothing is for the time that it returns.
func (c *crlContent) harm(text string) (why string, again time.Duration) {
	now := c.config.Now()
	if c.config.CRLs != nil {
		if why := c.config.CRLs.Withheld(); why != "" {
			return "the CA withholds them: " + why, 0
		}
	}
	crls, err := issuer.ParseCRLs(text, now)
	if err != nil {
		return err.Error(), 0
	}
	if again = crls.NextUpdate.Add(-crlMargin).Sub(now); again <= 0 {
		return "they are about to end", 0
	}
	if bundle := c.config.Source.Bundle(); bundle != nil {
		if err := crls.Cover(bundle, now); err != nil {
			return err.Error(), 0
		}
	}
	return "", again
}

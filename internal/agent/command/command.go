package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/certloom/certloom/internal/agent"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what the command needs of the process.
type Config struct {
	Stdout, Stderr io.Writer
	Env            func(name string) string // environment variables
	Version        string
	Now            func() time.Time
	Random         io.Reader
}

// usageError is a mistake of whoever started the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// ExitCode returns the exit status for the error that the command returned: 2 for settings that are wrong.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// PrintError prints an error for people, each of several on a line of its own.
func PrintError(w io.Writer, err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(w, "error: %s\n", line)
	}
}

// New returns the command. Execute it with a context that ends on interrupt.
func New(config Config) *cobra.Command {
	o := newOptions(config.Env)
	c := &cobra.Command{
		Use:   "certloom-agent",
		Short: "Istio's certificate authority in a Kubernetes cluster, in front of a Certloom server or another CA",
		Long: `certloom-agent gives Istio's workloads their certificates: it serves Istio's certificate service, checks who calls, and
gets the certificates from a Certloom server, or from another CA (--issuer). Point Istio's global.caAddress (and ztunnel's caAddress) at it.`,
		Example: `  certloom credential create --profile mesh --name cluster-1 -o json > credential.json
  certloom-agent --credential-file credential.json --server https://certloom.example.com:8444 --server-ca-file root.pem
  certloom-agent --issuer acme --acme-directory https://ca.example.com/acme/directory --acme-eab-key-id KEY_ID --acme-eab-key-file eab.key \
      --root-ca-file root.pem
  certloom-agent --issuer cert-manager --issuer-kind ClusterIssuer --issuer-name mesh-ca`,
		Version:       config.Version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), config, o)
		},
	}
	c.SetOut(config.Stdout)
	c.SetErr(config.Stderr)
	c.SetVersionTemplate("{{.Version}}\n")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see: certloom-agent --help", err)}
	})
	o.addTo(c)
	return c
}

// run starts the agent with everything that the flags say.
func run(ctx context.Context, config Config, o *options) error {
	settings, problems := o.settings()
	logger, err := telemetry.NewLogger(config.Stderr, o.logFormat, o.level())
	if err != nil {
		problems = append(problems, err)
	}
	client, objects, err := o.client()
	if err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(append(problems, settings.Check())...); err != nil {
		return usageError{err}
	}
	klog.SetSlogLogger(logger.With(telemetry.KeyComponent, "client-go"))
	running, err := agent.New(ctx, agent.Config{
		Settings: settings, Kube: client, Dynamic: objects, Connect: o.connect,
		Now: config.Now, Random: config.Random, Jitter: rand.Float64, Logger: logger,
	})
	if err != nil {
		return usageError{err}
	}
	if err := running.Run(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// client connects to the API server: that of the cluster that we run in, or of the kubeconfig. The client for other objects
// than Kubernetes' own has limits of its own, so that certificates and everything else do not wait for each other.
func (o *options) client() (kubernetes.Interface, dynamic.Interface, error) {
	var (
		config *rest.Config
		err    error
	)
	if o.kubeconfig == "" {
		if config, err = rest.InClusterConfig(); err != nil {
			return nil, nil, fmt.Errorf("--kubeconfig: needed outside of a cluster: %w", err)
		}
	} else if config, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig); err != nil {
		return nil, nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	client, err := o.connect(config)
	if err != nil || o.issuer != agent.IssuerCertManager {
		return client, nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return client, objects, nil
}

// connect makes a client of an API server, with the limits that the flags say for each of them.
func (o *options) connect(config *rest.Config) (kubernetes.Interface, error) {
	config.QPS, config.Burst = float32(o.kubeQPS), o.kubeBurst
	if o.unlimited {
		config.QPS, config.Burst = -1, -1
	}
	config.UserAgent = "certloom-agent"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return client, nil
}

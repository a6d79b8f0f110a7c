// Command build makes the programs that the end-to-end tests and the benchmark run beside ours: etcd, a Kubernetes API
// server, cert-manager's controllers, and peers. Each is built once and kept outside the tree; when all are there it
// takes no time.
//
//	go run ./build                  every part
//	go run ./build stepca           one part
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/certloom/certloom/test/e2e/parts"
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	wanted := parts.All()
	if len(names) > 0 {
		wanted = nil
		for _, name := range names {
			part, err := parts.Find(name)
			if err != nil {
				return err
			}
			wanted = append(wanted, part)
		}
	}
	for _, part := range wanted {
		dir, err := builder.Ensure(ctx, part)
		if err != nil {
			return err
		}
		fmt.Println(dir)
	}
	return nil
}

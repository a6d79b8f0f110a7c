package agentsrv_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/agentapi"
)

// BenchmarkIssue measures certificates a second, durable on SQLite, through gRPC and TLS: agents that send one item at
// a time, many at once, and agents that gather items.
func BenchmarkIssue(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		callers := max(1, 256/size)
		b.Run(fmt.Sprintf("callers=%d/items=%d", callers, size), func(b *testing.B) { benchmarkIssue(b, callers, size) })
	}
}

func benchmarkIssue(b *testing.B, callers, size int) {
	l := newLab(b, nil)
	client := l.agent(b)
	// CSRs are made beforehand, since that is the workload's work.
	requests := make([]*agentapi.IssueRequest, 0, callers)
	for c := range callers {
		in := &agentapi.IssueRequest{}
		for i := range size {
			in.Items = append(in.Items, workload(b, "demo", fmt.Sprintf("w%d-%d", c, i)))
		}
		requests = append(requests, in)
	}
	next := make(chan struct{})
	var wait sync.WaitGroup
	for _, in := range requests {
		wait.Go(func() {
			for range next {
				out, err := client.Issue(b.Context(), in)
				if err != nil {
					b.Error(err)
					continue
				}
				for _, result := range out.GetResults() {
					if result.GetCode() != 0 {
						b.Error(result.GetMessage())
					}
				}
			}
		})
	}
	b.ResetTimer()
	cpu := processorTime(b)
	calls := (b.N + size - 1) / size
	for range calls {
		next <- struct{}{}
	}
	close(next)
	wait.Wait()
	b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/float64(calls*size), "cpu-us/certificate")
	b.ReportMetric(float64(calls*size)/b.Elapsed().Seconds(), "certificates/s")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

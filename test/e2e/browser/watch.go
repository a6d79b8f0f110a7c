package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// watch has the browser tell of everything that goes wrong, and load everything that a page needs: nothing is
// cached.
func watch(scripts bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, networked := chromedp.Call(ctx, network.Enable, network.EnableParams{})
		_, uncached := chromedp.Call(ctx, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
		_, logged := chromedp.Call(ctx, log.Enable, cdp.Empty{})
		_, audited := chromedp.Call(ctx, audits.Enable, cdp.Empty{})
		_, scripted := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts})
		return errors.Join(networked, uncached, logged, audited, scripted)
	})
}

// Expect takes a status of an answer for no trouble, from now on: a page that refuses is tested as well.
func (tab *Tab) Expect(status int64) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.expected[status] = true
}

// Troubles takes what the browser has complained of since it was asked last: errors and warnings in the console,
// exceptions, violations of the Content-Security-Policy, requests that failed or were refused.
func (tab *Tab) Troubles() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	troubles := tab.troubles
	tab.troubles = nil
	return troubles
}

// listen takes the browser's events. It runs on a goroutine of chromedp's.
func (tab *Tab) listen(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Type != network.ResourceTypeOther { // the icon, of whose end the browser does not always tell
			tab.requests[e.RequestID] = e.Request.Method + " " + e.Request.URL
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 && !tab.expected[e.Response.Status] {
			tab.trouble("%s was answered with %d", e.Response.URL, e.Response.Status)
		}
	case *network.EventLoadingFinished:
		tab.received += e.EncodedDataLength
		delete(tab.requests, e.RequestID)
	case *network.EventLoadingFailed:
		if !e.Canceled {
			tab.trouble("%s failed: %s %s", tab.requests[e.RequestID], e.ErrorText, e.BlockedReason)
		}
		delete(tab.requests, e.RequestID)
	case *runtime.EventExceptionThrown:
		tab.trouble("exception: %s", exception(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			tab.trouble("console.%s: %s", e.Type, values(e.Args))
		}
	case *log.EventEntryAdded:
		// What failed on the network was told by the events above, with its status.
		if e.Entry.Source != log.EntrySourceNetwork && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			tab.trouble("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *audits.EventIssueAdded:
		if d := e.Issue.Details.ContentSecurityPolicyIssueDetails; d != nil {
			tab.trouble("Content-Security-Policy: %s of %s", d.ViolatedDirective, d.BlockedURL)
		}
	}
}

// trouble notes a complaint. mu is held.
func (tab *Tab) trouble(format string, args ...any) {
	tab.troubles = append(tab.troubles, fmt.Sprintf(format, args...))
}

// exception is what was thrown, and where.
func exception(d *runtime.ExceptionDetails) string {
	text := d.Text
	if d.Exception != nil {
		text += " " + d.Exception.Description
	}
	return fmt.Sprintf("%s (%s:%d)", text, d.URL, d.LineNumber+1)
}

// values is what was handed to the console.
func values(args []*runtime.RemoteObject) string {
	var text string
	for _, arg := range args {
		if arg.Value != nil {
			text += string(arg.Value) + " "
		} else {
			text += arg.Description + " "
		}
	}
	return text
}

// quote writes a string of JavaScript, or of XPath when it has no quotation marks.
func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return strconv.Quote(text)
	}
	return string(quoted)
}

package browser

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	devtools "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// ChromiumVariable names the environment variable with the path of the browser, where none of the usual names is one.
const ChromiumVariable = "CERTLOOM_E2E_CHROMIUM"

// Chromium is a running browser with one profile: its tabs share cookies. It ends with its test.
type Chromium struct {
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it
	url string          // of the server, without a slash at its end

	downloads string // folder of what is downloaded
	scripts   bool   // whether pages have them
}

// Settings choose how a browser starts.
type Settings struct {
	NoScripts bool   // pages have none
	Language  string // of the person; "" is en
}

// StartChromium starts a browser that trusts the server's CA, and no other of its kind.
func StartChromium(ctx context.Context, t testbed.T, server *testbed.Certloom, settings Settings) *Chromium {
	t.Helper()
	path, err := executable()
	if err != nil {
		t.Fatal(err)
	}
	key, err := issuingKey(ctx, t, server)
	if err != nil {
		t.Fatal(err)
	}
	dir := testbed.Folder(t)
	language := settings.Language
	if language == "" {
		language = "en"
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.Env("HOME="+dir, "LANG=C.UTF-8"),
		chromedp.Flag("ignore-certificate-errors-spki-list", key),
		chromedp.Flag("lang", language),
		chromedp.Flag("accept-lang", language),
		chromedp.Flag("disable-component-update", true), // no calls home
		chromedp.Flag("no-pings", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.WindowSize(Wide.Width, Wide.Height),
	)
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closeBrowser()
		stop() // waits for its end: its folder is removed next
	})
	downloads := filepath.Join(dir, "downloads")
	if err := chromedp.Do(browser, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.CallBrowser(ctx, devtools.SetDownloadBehavior, devtools.SetDownloadBehaviorParams{
			Behavior: devtools.SetDownloadBehaviorBehaviorAllow, DownloadPath: downloads,
		})
		return err
	})); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &Chromium{ctx: browser, url: server.URL, downloads: downloads, scripts: !settings.NoScripts}
}

// executable finds the browser.
func executable() (string, error) {
	if path := os.Getenv(ChromiumVariable); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no Chromium: install the package chromium, or name one in " + ChromiumVariable)
}

// issuingKey is the SHA-256 of the key of the CA that issued the server's certificate, in base64, after the certificate was
// verified. Chromium has no file of roots; it takes any certificate whose chain has such a key.
func issuingKey(ctx context.Context, t testbed.T, server *testbed.Certloom) (string, error) {
	t.Helper()
	address, err := url.Parse(server.URL)
	if err != nil {
		return "", fmt.Errorf("read the server's URL: %w", err)
	}
	roots, err := testbed.Roots(server.CAFile)
	if err != nil {
		return "", err
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: address.Hostname(), MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address.Host)
	if err != nil {
		return "", fmt.Errorf("ask the server for its certificate: %w", err)
	}
	defer conn.Close()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return "", errors.New("the connection is not secured")
	}
	chain := secured.ConnectionState().PeerCertificates
	if len(chain) < 2 {
		return "", errors.New("the server sends no certificate of its CA")
	}
	sum := sha256.Sum256(chain[1].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// Package browser drives the console in a headless Chromium, as people use it: it waits for what a page shows, takes
// pictures, and notes everything that a browser complains of.
//
// Nothing is granted to the browser that a person's would not have: certificates are trusted by the key of the CA that
// issued them, and the Content-Security-Policy stays in force. Scripts of the tests come through the debugging protocol,
// which is not of the page.
package browser

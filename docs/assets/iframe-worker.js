/* Search works from a file on the disk, too: there a browser starts no worker, and a hidden frame does its work.
   The theme brings its index along as a script (the plugin `offline`) and starts its worker through this. */
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true })
      document.body.append(this.frame)
      this.inner = this.frame.contentWindow
      window.addEventListener("message", (event) => {
        if (event.source !== this.inner) return
        const told = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(told)
        this.onmessage?.(told)
      })
      const page = this.inner.document
      page.open()
      page.write(
        "<script>" +
          "postMessage = (data) => parent.postMessage(data, '*', [], self);" +
          "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {" +
          "const script = Object.assign(document.createElement('script'), { src: url, onload: done, onerror: failed });" +
          "document.body.append(script) })), Promise.resolve())" +
          "</scr" + "ipt>",
      )
      page.write(`<script src="${url}"></scr` + "ipt>")
      page.close()
    }
    postMessage(data) {
      const send = () => this.inner.dispatchEvent(new MessageEvent("message", { data }))
      if (this.inner.document.readyState === "complete") send()
      else this.inner.addEventListener("load", send, { once: true })
    }
    terminate() {
      this.frame.remove()
    }
  }
}

// A page that is served renews itself when there is a newer one, where the reader was.
(() => {
  const bar = document.querySelector(".live"), known = bar.dataset.state, key = `selbench ${location.pathname}`;
  const all = () => [...document.querySelectorAll("section > details")];
  const before = JSON.parse(sessionStorage.getItem(key) ?? "null");
  if (before) {
    sessionStorage.removeItem(key);
    for (const details of all()) details.open = before.open.includes(details.parentElement.id) || details.open;
    scrollTo(0, before.top);
  }
  setInterval(async () => {
    try {
      const now = await (await fetch("state", { cache: "no-store" })).json();
      bar.textContent = now.said;
      if (now.state === known) return;
      const open = all().filter((details) => details.open).map((details) => details.parentElement.id);
      sessionStorage.setItem(key, JSON.stringify({ top: scrollY, open }));
      location.reload();
    } catch {
      bar.textContent = "not live: nobody answers";
    }
  }, 2000);
})();
